"""A linear probe: logistic regression on frozen features; training photos alone choose its strength."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Solution = tuple[Features, Features]  # (num_classes, features) weights, (num_classes,) biases

MIDDLE = 0.1  # scikit-learn's C on standardised features: tried first, and taken if too few photos can be held out
WEAKER, STRONGER = (0.03, 0.01), (0.3, 1.0, 3.0)  # tried in turn, from the middle outwards
HELD_OUT = 5  # every fifth photo of a class
FEWEST_HELD_OUT = 20
MOST_TO_CHOOSE = 20_000  # photos used to choose the strength; the probe is fitted on all
MOST_ITERATIONS = 60  # with wrong labels a fit went on for 100, at no gain
MOST_TO_COMPARE = 40  # iterations to choose the strength; with 20, a later fit looked better than it was
TOLERANCE = 1e-4  # of the entries of the mean gradient
ROUGH_STRENGTHS = (0.01, 0.1)
ROUGHLY = (30, 1e-2)  # iterations and tolerance to compare backbones
TOLERANCE_OF_ALL = 0.01  # of all entries together: with more classes each entry is smaller


@dataclass(frozen=True)
class Probe:
    """A linear layer on raw features."""

    weight: npt.NDArray[np.float32]  # (num_classes, features)
    bias: npt.NDArray[np.float32]  # (num_classes,)
    inverse_strength: float  # C of scikit-learn, on standardised features
    held_out: int  # photos used to choose it; 0: it was not chosen

    def logits(self, features: Features) -> npt.NDArray[np.float32]:
        """(rows, features) to (rows, num_classes)."""
        made: npt.NDArray[np.float32] = features @ self.weight.T + self.bias
        return made


def fit_probe(
    features: Features, labels: Labels, num_classes: int, seed: int, views: int = 1, groups: Labels | None = None
) -> Probe:
    """Fits the probe on all rows, with the strength that is best on held-out rows.

    Fine-tuning starts from this head, so that the first steps do not distort the features (Kumar et al. 2022, arXiv
    2202.10054, section 3.3).

    Args:
        features: (rows, features); several views list the same photos in the same order, view after view.
        labels: (rows,) in [0, num_classes); every class has a row, and there are two or more.
        seed: chooses the held-out photos.
        views: rows per photo; the strength is chosen on the first one.
        groups: (photos,) numbers, in the order of a view; photos with one number are held out together.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
    scaled = (features - mean) / deviation
    photos = len(labels) // views
    strength, held_out, start = _choose(scaled[:photos], labels[:photos], seed, groups)
    strength /= views  # scikit-learn's C weighs each row, and further views say little that is new of a photo
    weight, bias = _fit(scaled, labels, strength, num_classes, start=start)
    weight = weight / deviation
    return Probe(weight, bias - weight @ mean, strength, held_out)


def _choose(features: Features, labels: Labels, seed: int, groups: Labels | None) -> tuple[float, int, Solution | None]:
    """The strength with the lowest loss on held-out photos of each class, their number, and its fit.

    Each fit starts from the best so far, and the search ends where the loss grows. No fit: a class is held out whole.
    """
    photos = len(labels)
    order = np.random.default_rng([seed, photos]).permutation(photos)[:MOST_TO_CHOOSE]
    held = _held_out(labels, order, np.arange(photos) if groups is None else groups)
    rest = np.zeros(photos, dtype=bool)
    rest[order] = True
    rest &= ~held
    if held.sum() < FEWEST_HELD_OUT or len(np.unique(labels[rest])) < 2:
        return MIDDLE, 0, None
    rows = features[rest], labels[rest], features[held], labels[held]
    best, (loss, found) = MIDDLE, _loss(*rows, MIDDLE, None)
    for strengths in (STRONGER, WEAKER):
        for strength in strengths:
            other, fit = _loss(*rows, strength, found)
            if other >= loss:
                break
            best, loss, found = strength, other, fit
        if best != MIDDLE:  # the loss has one minimum
            break
    has_all = len(np.unique(labels[rest])) == len(np.unique(labels))
    return best, int(held.sum()), found if has_all else None


def _held_out(labels: Labels, order: Labels, groups: Labels) -> npt.NDArray[np.bool_]:
    """(photos,) the first fifth of each class in this order, as whole groups that take at most half of a class."""
    held = np.zeros(len(labels), dtype=bool)
    images = np.bincount(labels[order], minlength=labels.max() + 1)
    taken = np.zeros_like(images)
    for photo in order[np.argsort(labels[order], kind="stable")].tolist():
        label = labels[photo]
        if held[photo] or taken[label] >= images[label] // HELD_OUT:
            continue
        members = order[groups[order] == groups[photo]]
        of_class = np.bincount(labels[members], minlength=len(images))
        if (2 * (taken + of_class) <= images)[of_class > 0].all():
            held[members] = True
            taken += of_class
    return held


def _loss(
    rows: Features, labels: Labels, held_out: Features, their: Labels, strength: float, start: Solution | None
) -> tuple[float, Solution]:
    """Mean cross-entropy on the held-out rows whose class is among the other rows, and the fit."""
    known, place = np.unique(labels, return_inverse=True)
    weight, bias = _fit(rows, place, strength, len(known), MOST_TO_COMPARE, start=start)
    is_known = np.isin(their, known)
    logits = held_out[is_known] @ weight.T + bias
    own = np.searchsorted(known, their[is_known])
    highest = logits.max(axis=1)
    sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((sums - logits[np.arange(len(own)), own]).mean()), (weight, bias)


def _fit(
    rows: Features,
    labels: Labels,
    strength: float,
    num_classes: int,
    most_iterations: int = MOST_ITERATIONS,
    tolerance: float = TOLERANCE,
    start: Solution | None = None,
) -> Solution:
    """scikit-learn's multinomial regression: (num_classes, features) weights and (num_classes,) biases."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    tolerance = min(tolerance, TOLERANCE_OF_ALL / num_classes)
    regression = LogisticRegression(C=strength, max_iter=most_iterations, tol=tolerance, warm_start=start is not None)
    if start is not None:
        first = [part[1:] - part[:1] if num_classes == 2 else part for part in start]  # two classes: one row, as below
        regression.coef_, regression.intercept_ = first
    with warnings.catch_warnings():
        # More iterations would only change the last digits of a starting point.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        regression.fit(rows, labels)
    weight, bias = regression.coef_.astype(np.float32), regression.intercept_.astype(np.float32)
    if num_classes == 2:  # scikit-learn gives two classes one row: the second's logit over the first's
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def losses_beside(
    rows: Features, labels: Labels, held_out: Features, their: Labels
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """What a probe fitted on rows makes of held-out ones: (held-out rows,) loss and whether it is right.

    At the strength with the lowest loss. A class without a row in `labels` cannot be right; its loss is that of a
    guess.
    """
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
    known, place = np.unique(labels, return_inverse=True)
    own = np.minimum(np.searchsorted(known, their), len(known) - 1)
    is_known = known[own] == their
    best: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None = None
    for strength in ROUGH_STRENGTHS:
        weight, bias = _fit((rows - mean) / deviation, place, strength, len(known), *ROUGHLY)
        logits = ((held_out - mean) / deviation @ weight.T + bias).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(their)), own]
        losses = np.where(is_known, losses, np.log(len(known) + 1))
        if best is not None and losses.mean() > best[0].mean():  # past its only minimum
            break
        best = losses, (logits.argmax(axis=1) == own) & is_known
    assert best is not None
    return best
