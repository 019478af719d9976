"""The only scorer of `accuracy.py`: accuracies, their intervals, and two methods on the same photos over all seeds."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.comparison import Comparison, compare_predictions
from fieldguide.evaluation.intervals import wilson
from fieldguide.evaluation.predictions import Predictions

RESAMPLES = 10_000


def said(photos: Mapping[str, Sequence[str]], predicted: Sequence[str]) -> Predictions:
    """Predicted classes as fieldguide's own predictions: a logit of 1 for the class that was named."""
    classes = tuple(sorted({*photos["classes"], *predicted}))
    place = {name: number for number, name in enumerate(classes)}
    logits = np.zeros((len(predicted), len(classes)), dtype=np.float32)
    logits[np.arange(len(predicted)), [place[name] for name in predicted]] = 1
    labels = np.array([place[name] for name in photos["classes"]], dtype=np.int64)
    return Predictions(tuple(photos["files"]), labels, logits, classes)


@dataclasses.dataclass(frozen=True)
class Score:
    """A method at some minutes.

    Attributes:
        seeds: of its runs, rising.
        accuracies: one a seed.
        mean: over the seeds.
        low, high: 95 %, Wilson, of the mean with one run's photos as trials: seeds see the same photos, so that more of
            them are no more photos.
    """

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    low: float
    high: float


def score(runs: Mapping[int, Predictions]) -> Score:
    """Of the runs of all seeds."""
    seeds = tuple(sorted(runs))
    accuracies = tuple(float((runs[seed].predicted() == runs[seed].labels).mean()) for seed in seeds)
    mean, trials = statistics.fmean(accuracies), len(runs[seeds[0]].files)
    return Score(seeds, accuracies, mean, *wilson(round(mean * trials), trials))


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two methods on the same photos.

    Attributes:
        difference: of the means over seeds, A - B.
        low, high: 95 % of it, by `bootstrap_difference`.
        each: for every seed that both have, McNemar's exact test and Tango's interval.
    """

    difference: float
    low: float
    high: float
    each: dict[int, Comparison]

    @property
    def verdict(self) -> str:
        """What the interval shows."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not shown"


def paired(a: Mapping[int, Predictions], b: Mapping[int, Predictions], *, macro: bool = False) -> Paired:
    """A against B, each with its seeds, by accuracy or by macro accuracy (the comparisons of `each` by accuracy)."""
    strata = _strata(a, macro=macro)
    right_a, right_b = _right(a), _right(b)
    each = {seed: compare_predictions(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())}
    difference = _mean(right_a, strata) - _mean(right_b, strata)
    return Paired(difference, *bootstrap_difference(right_a, right_b, strata), each)


def macro_accuracy(runs: Mapping[int, Predictions]) -> float:
    """Mean over the seeds of the mean recall of the classes that have photos."""
    return _mean(_right(runs), _strata(runs, macro=True))


def _right(runs: Mapping[int, Predictions]) -> npt.NDArray[np.bool_]:
    """(seeds, photos)"""
    return np.stack([runs[seed].predicted() == runs[seed].labels for seed in sorted(runs)])


def _strata(runs: Mapping[int, Predictions], *, macro: bool) -> npt.NDArray[np.int64]:
    """(photos,) what counts alike, numbered without a gap: each class, or all photos together."""
    labels = next(iter(runs.values())).labels
    return np.unique(labels, return_inverse=True)[1] if macro else np.zeros(len(labels), dtype=np.int64)


def _mean(right: npt.NDArray[np.bool_], strata: npt.NDArray[np.int64]) -> float:
    """Over the seeds, of the mean over the strata."""
    return float((np.bincount(strata, right.mean(axis=0)) / np.bincount(strata)).mean())


def bootstrap_difference(
    right_a: npt.NDArray[np.bool_],
    right_b: npt.NDArray[np.bool_],
    strata: npt.NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the difference of two methods' mean accuracies, over photos and over seeds.

    The pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1:386-411): photos and seeds are drawn again
    independently of each other, the same photos for A and B, seeds of each on their own. With one seed it is the paired
    bootstrap of photos (Efron and Tibshirani 1993, chapter 13). It errs on the wide side.

    Args:
        right_a: (seeds of A, photos), whether each run has each photo right.
        right_b: (seeds of B, photos), the same photos in the same order.
        strata: (photos,) numbers from 0 without a gap; the mean is that of the strata's means, and photos are drawn
            again each in its own. Left out: one stratum.
        resamples: draws.
        seed: of the draws; the same gives the same bounds.

    Returns:
        Lower and upper bound of accuracy of A - accuracy of B, in [-1, 1].
    """
    draw = np.random.default_rng(seed)
    photos = right_a.shape[1]
    strata = np.zeros(photos, dtype=np.int64) if strata is None else strata
    order, sizes = np.argsort(strata, kind="stable"), np.bincount(strata)
    right_a, right_b, strata = right_a[:, order], right_b[:, order], strata[order]
    starts, among = np.searchsorted(strata, strata), sizes[strata]
    differences = np.empty(resamples)
    for number in range(resamples):
        drawn = starts + draw.integers(among)
        counts = np.bincount(drawn, minlength=photos) / (among * len(sizes))
        drawn_a = right_a[draw.integers(len(right_a), size=len(right_a))].mean(axis=0)
        drawn_b = right_b[draw.integers(len(right_b), size=len(right_b))].mean(axis=0)
        differences[number] = counts @ (drawn_a - drawn_b)
    low, high = np.quantile(differences.round(12), (0.025, 0.975))  # a bound of 0 is 0, whatever sums of shares come to
    return float(low), float(high)
