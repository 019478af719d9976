"""Confidence against accuracy: reliability by bin, expected calibration error, accuracy against coverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.clusters import Groups, worth_each
from fieldguide.evaluation.intervals import wilson_each

BINS = 15  # as Guo et al. 2017

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def _bin_of(confidence: Floats, correct: Flags, bins: int) -> Counts:
    """(photos,) the bin of each, ((m - 1) / bins, m / bins]; 0 is in the first."""
    if len(confidence) == 0 or confidence.shape != correct.shape or bins < 1:
        raise ValueError(f"confidences {confidence.shape}, right or wrong {correct.shape}, {bins} bins")
    return np.asarray(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left"), dtype=np.int64)


def _bin_sums(where: Counts, confidence: Floats, correct: Flags, bins: int) -> tuple[Counts, Counts, Floats]:
    """Photos, right ones and summed confidence of each bin."""
    images = np.bincount(where, minlength=bins)
    right = np.bincount(where[correct], minlength=bins)
    return images, right, np.asarray(np.bincount(where, weights=confidence, minlength=bins), dtype=np.float64)


def expected_calibration_error(confidence: Floats, correct: Flags, bins: int = BINS) -> float:
    """Mean distance of accuracy from confidence over bins of equal width, weighted by photos (Guo et al. 2017, eq. 3).

    An empty bin has no weight. The figure depends on the bins. Even a perfectly calibrated model has more than 0, and
    more with fewer photos: compare it only at the same n and bins.

    Args:
        confidence: (photos,) probability of the likeliest class, in [0, 1].
        correct: (photos,) whether that class is the true one.
        bins: count.

    Returns:
        In [0, 1].

    Raises:
        ValueError: no photos, no bins, or arrays that do not go together.
    """
    _, right, summed = _bin_sums(_bin_of(confidence, correct, bins), confidence, correct, bins)
    return float(np.abs(right - summed).sum() / len(confidence))


def reliability_table(
    confidence: Floats, correct: Flags, bins: int = BINS, groups: Groups | None = None
) -> list[dict[str, Any]]:
    """One row per bin of equal width: confidence, accuracy and number of photos.

    Args:
        confidence, correct, bins: as for `expected_calibration_error`.
        groups: (photos,) numbers; photos of one number belong together. None: single photos.

    Returns:
        Rows with `above`, `up_to`, `images`, `confidence` (mean), `accuracy`, `accuracy_low` and `accuracy_high`
        (95 %, Wilson; with groups, for the effective number of photos, `clusters.worth_each`); the last four are None
        for an empty bin.

    Raises:
        ValueError: no photos, no bins, or arrays that do not go together.
    """
    where = _bin_of(confidence, correct, bins)
    images, right, summed = _bin_sums(where, confidence, correct, bins)
    divisor, trials = np.maximum(images, 1), worth_each(correct, where, bins, groups)
    low, high = wilson_each(right * (trials / divisor), trials)
    columns = {
        "confidence": summed / divisor,
        "accuracy": right / divisor,
        "accuracy_low": low,
        "accuracy_high": high,
    }
    return [
        {"above": m / bins, "up_to": (m + 1) / bins, "images": int(images[m])}
        | {name: float(column[m]) if images[m] else None for name, column in columns.items()}
        for m in range(bins)
    ]


@dataclass(frozen=True, eq=False)
class CoverageCurve:
    """Accuracy among the most confident photos, as more of them are answered.

    Each is (points,): the share of photos answered, rising to 1; the share of these that are right; and the lowest
    confidence answered.
    """

    coverage: Floats
    accuracy: Floats
    confidence: Floats

    def as_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {
            "coverage": self.coverage.tolist(),
            "accuracy": self.accuracy.tolist(),
            "confidence": self.confidence.tolist(),
        }


def coverage_curve(confidence: Floats, correct: Flags, most_points: int = 200) -> CoverageCurve:
    """Accuracy against coverage (El-Yaniv and Wiener 2010, section 2: the risk-coverage curve, turned over).

    Photos of equal confidence are answered together, because no threshold can separate them.

    Curves of more than `most_points`, at least 2, are thinned evenly, with the first and the last point kept.
    """
    if len(confidence) == 0 or confidence.shape != correct.shape or most_points < 2:
        raise ValueError(f"confidences {confidence.shape}, right or wrong {correct.shape}, {most_points} points")
    order = np.argsort(-confidence, kind="stable")
    surest_first = confidence[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(surest_first)), len(order) - 1)  # (thresholds,)
    if len(last_of_tie) > most_points:
        last_of_tie = last_of_tie[np.linspace(0, len(last_of_tie) - 1, most_points).round().astype(np.int64)]
    answered = last_of_tie + 1
    right = np.cumsum(correct[order])[last_of_tie]
    return CoverageCurve(answered / len(order), right / answered, surest_first[last_of_tie].astype(np.float64))
