"""Photos whose folder is probably the wrong one."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.predictions import Predictions


def suspects(predictions: Predictions, temperature: float = 1.0, most: int | None = None) -> list[dict[str, Any]]:
    """Likely label errors by confident learning, the likeliest first.

    Northcutt, Jiang and Chuang 2021, JAIR 70:1373-1411, section 3.1, equations 1 and 2: a photo is confidently of class
    j if its probability of j reaches the mean probability of j over the photos labelled j (the class's threshold); of
    several such classes the likeliest counts; a photo that is so of another class than its label is a suspect (the
    off-diagonal of the confident joint), here only if it is the likelier one too. Ranked by the margin between the two.

    The predictions must be of photos that the model was not trained on (validation, or out of fold): a model believes
    the labels it was shown. A class that has no photos has no threshold and is never suggested. As the threshold is a
    mean, the rule is sparing: a wrong label on a photo that is less typical than the mean goes unseen.

    Args:
        predictions: of photos not trained on.
        temperature: that calibrates them.
        most: how many rows at most; None for all.

    Returns:
        Rows with `file`, `given` and `suggested` class, `confidence` (of the suggested), `given_confidence` and
        `threshold` (of the suggested class).

    Raises:
        ValueError: the temperature is not positive and finite.
    """
    probabilities, labels = predictions.probabilities(temperature), predictions.labels
    if len(labels) == 0:
        return []
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    thresholds = _thresholds(given, labels, len(predictions.classes))
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)  # (photos, classes)
    suggested = confident.argmax(axis=1)
    margin = confident[rows, suggested] - given
    # Stricter than the paper: where the label is still the likelier one, a person gains nothing from looking.
    found = np.flatnonzero((suggested != labels) & (margin > 0))
    ranked = found[np.argsort(-margin[found], kind="stable")][:most]
    return [
        {
            "file": predictions.files[row],
            "given": predictions.classes[labels[row]],
            "suggested": predictions.classes[suggested[row]],
            "confidence": float(probabilities[row, suggested[row]]),
            "given_confidence": float(given[row]),
            "threshold": float(thresholds[suggested[row]]),
        }
        for row in ranked
    ]


def _thresholds(
    given: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.float64]:
    """(classes,) mean probability of a class over the photos that are labelled with it; infinite without photos."""
    images = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=given, minlength=num_classes)
    return np.where(images > 0, sums / np.maximum(images, 1), np.inf)
