"""Calibration: whether a confidence of 80 % is right 8 times out of 10, and the temperature that makes it so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from fieldguide.evaluation.clusters import Groups, joined_groups
from fieldguide.evaluation.reliability import (
    BINS,
    coverage_curve,
    expected_calibration_error,
    reliability_table,
)

FOLDS = 5  # of the cross-fitting
DECADES = 6  # a temperature below 1e-6 or above 1e6 would say that the logits are not logits
AT_BOUND = "at its limit: the log loss would fall further beyond it"
ALL_RIGHT = (
    "all {n} photos are right, so no temperature is best; this one keeps mean confidence at or below (n + 1) / (n + 2)"
)

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Temperature:
    """The divisor of logits that makes their softmax as confident as it is right.

    `note` is None if the value is the optimum of `fitted_on_n` photos; else it says why, and what the value is.
    """

    value: float
    fitted_on_n: int
    note: str | None


def log_loss(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Mean negative log probability of the true class, in nats; computed from logits, so never infinite.

    Takes (photos, classes) finite logits and (photos,) indices; raises ValueError without photos.
    """
    _demand_pairs(logits, labels)
    if len(labels) == 0:
        raise ValueError("no photos, no log loss")
    of_truth = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return float(-of_truth.sum() / len(labels))


def fit_temperature(logits: npt.NDArray[Any], labels: Labels) -> Temperature:
    """The temperature of least log loss (Guo et al. 2017, section 4.2, equation 9).

    The log loss is convex in 1 / temperature, so this finds the root of its slope (Brent 1973), on a logarithmic scale
    between 1e-6 and 1e6. If every photo is right there is no optimum: a lower temperature always gives a lower loss,
    with more certainty than n photos justify. The temperature then goes below 1 only until mean confidence is that of
    Laplace's rule of succession, (n + 1) / (n + 2), and never above 1. The note says so.

    Args:
        logits: (photos, classes), finite; of photos that the model was not trained on.
        labels: (photos,) indices of the true classes.

    Returns:
        The temperature; 1 with a note if there are no photos or all logits are equal.

    Raises:
        ValueError: arrays that do not go together.
    """
    _demand_pairs(logits, labels)
    n = len(labels)
    below_top = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)  # (photos, classes)
    if n == 0 or not below_top.any():
        return Temperature(1.0, n, "not fitted: there are no photos, or all logits are equal")
    of_truth = below_top[np.arange(n), labels]

    if of_truth.any():
        truth = float(of_truth.mean())
        value, at_bound = _root(lambda inverse: _expected(below_top, inverse) - truth)
        return Temperature(value, n, AT_BOUND if at_bound else None)
    value, _ = _root(lambda inverse: _confidence(below_top, inverse) - (n + 1) / (n + 2))
    return Temperature(min(value, 1.0), n, ALL_RIGHT.format(n=n))


def _expected(below_top: Floats, inverse: float) -> float:
    """Mean expected logit; minus the mean logit of the truth, this is the slope of the log loss in 1 / temperature."""
    weights = np.exp(below_top * inverse)  # at most 1, and 1 somewhere in each row
    return float((np.einsum("pc,pc->p", weights, below_top) / weights.sum(axis=1)).mean())


def _confidence(below_top: Floats, inverse: float) -> float:
    """Mean confidence, as a share of its limit: with k equal highest logits it stays below 1 / k."""
    reachable = 1 / (below_top == 0).sum(axis=1)
    return float((1 / np.exp(below_top * inverse).sum(axis=1)).sum() / reachable.sum())


def _root(rising: Callable[[float], float]) -> tuple[float, bool]:
    """The temperature at which a function that rises with 1 / temperature is 0, and whether it is at a limit instead.

    Tries decades outwards from a temperature of 1, because each call reads all logits.
    """
    way = -1 if rising(1.0) > 0 else 1
    for decade in range(1, DECADES + 1):
        if rising(10.0 ** (way * decade)) * way >= 0:
            near, far = way * (decade - 1), way * decade
            exponent = brentq(lambda exponent: rising(10.0**exponent), near, far, xtol=1e-10)
            return float(10.0**-exponent), False
    return 10.0 ** (-way * DECADES), True


def temperatures_without_each(
    logits: npt.NDArray[Any], labels: Labels, folds: int = FOLDS, seed: int = 0, groups: Groups | None = None
) -> Floats:
    """For each photo, the temperature fitted without its fold.

    Folds are stratified by class, if a class has a photo for each fold. Photos that belong together share a fold.

    Args:
        logits, labels: as for `fit_temperature`.
        folds: at least 2; fewer if there are fewer groups. A single group has no others to fit on and gets 1.
        seed: of the folds.
        groups: (photos,) numbers; photos of one number belong together. None: each stands for itself.
    """
    _demand_pairs(logits, labels)
    if folds < 2:
        raise ValueError(f"{folds} folds; at least 2 are needed")
    temperatures = np.ones(len(labels))
    joined = joined_groups(groups)
    folds = min(folds, joined or len(labels))
    if folds < 2:
        return temperatures
    kind = StratifiedKFold if joined is None else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    for others, held_out in splitter.split(logits, _strata(labels, folds), None if joined is None else groups):
        temperatures[held_out] = fit_temperature(logits[others], labels[others]).value
    return temperatures


def _strata(labels: Labels, folds: int) -> Labels:
    """Labels with the classes that have fewer photos than folds merged, so that scikit-learn can spread them."""
    images = np.bincount(labels)
    if images.max() < folds:
        return np.zeros_like(labels)
    strata = np.where(images[labels] < folds, -1, labels)
    few = 0 < (strata == -1).sum() < folds
    return np.where(strata == -1, images.argmax(), strata) if few else strata


def calibration_summary(logits: npt.NDArray[Any], labels: Labels, *, groups: Groups | None = None) -> dict[str, Any]:
    """The effect of calibration, measured on photos that the temperature was not fitted on.

    Args:
        logits: (photos, classes); the temperature is fitted on all of them.
        labels: (photos,) indices.
        groups: (photos,) numbers; photos of one number belong together. None: each stands for itself.

    Returns:
        Plain data: `temperature`, `temperature_note`, `fitted_on_n`; `judged` (how, in words) and `judged_on_n`;
        `log_loss_before`, `log_loss_after` (nats), `ece_before`, `ece_after` (in [0, 1]), `bins`;
        `reliability_before` and `reliability_after` (rows; their intervals count for groups), `coverage_curve` (after;
        lists).

    Raises:
        ValueError: no photos, or arrays that do not go together.
    """
    fitted = fit_temperature(logits, labels)
    before, joined = logits.astype(np.float64), joined_groups(groups)
    units, together = (len(labels), "") if joined is None else (joined, ", groups kept together")
    judged = f"{min(FOLDS, units)}-fold cross-fitted{together}"
    if units == 1:
        judged = f"not cross-fitted: there is only one {'photo' if joined is None else 'group'}"
    after = before / temperatures_without_each(logits, labels, groups=groups)[:, None]
    return {
        "temperature": fitted.value,
        "temperature_note": fitted.note,
        "fitted_on_n": fitted.fitted_on_n,
        "judged": judged,
        **_before_and_after(before, after, labels, groups),
    }


def temperature_summary(
    temperature: float, logits: npt.NDArray[Any], labels: Labels, judged: str, groups: Groups | None = None
) -> dict[str, Any]:
    """The effect on these photos of a temperature that was fitted elsewhere.

    Arguments and result are those of `calibration_summary`, without `temperature_note` and `fitted_on_n`; `judged` says
    in words how the photos were judged.
    """
    before = logits.astype(np.float64)
    figures = _before_and_after(before, before / temperature, labels, groups)
    return {"temperature": temperature, "judged": judged, **figures}


def _before_and_after(
    logits: Floats, calibrated: Floats, labels: Labels, groups: Groups | None = None
) -> dict[str, Any]:
    before, after = (_judged(each, labels, groups) for each in (logits, calibrated))
    return {
        "judged_on_n": len(labels),
        "bins": BINS,
        "coverage_curve": after.pop("coverage_curve"),
        **{f"{name}_before": value for name, value in before.items() if name != "coverage_curve"},
        **{f"{name}_after": value for name, value in after.items()},
    }


def _judged(logits: Floats, labels: Labels, groups: Groups | None) -> dict[str, Any]:
    loss = log_loss(logits, labels)  # first, because it refuses bad input
    confidence = softmax(logits, axis=1).max(axis=1)
    correct = logits.argmax(axis=1) == labels
    return {
        "log_loss": loss,
        "ece": expected_calibration_error(confidence, correct),
        "reliability": reliability_table(confidence, correct, groups=groups),
        "coverage_curve": coverage_curve(confidence, correct).as_dict(),
    }


def _demand_pairs(logits: npt.NDArray[Any], labels: Labels) -> None:
    if logits.ndim != 2 or labels.shape != (len(logits),):
        raise ValueError(f"labels {labels.shape} and logits {logits.shape} do not go together")
