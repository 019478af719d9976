"""Photos that are probably in the wrong folder."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.predictions import Predictions


def suspects(predictions: Predictions, temperature: float = 1.0, most: int | None = None) -> list[dict[str, Any]]:
    """Likely label errors by confident learning, likeliest first.

    Northcutt, Jiang and Chuang 2021, JAIR 70:1373-1411, section 3.1, equations 1 and 2: a photo is confidently of class
    j if its probability of j reaches the mean probability of j over the photos labelled j (the threshold of j). Of
    several such classes the likeliest counts. A photo that is confidently of another class than its label is a suspect
    (the off-diagonal of the confident joint); here only if that class is also likelier than the label. Suspects are
    ranked by the margin between the two.

    The predictions must be of photos that the model was not trained on (validation, or out of fold), because a model
    believes the labels it has seen. A class without photos has no threshold and is never suggested. The threshold is a
    mean, so the rule misses wrong labels on photos that are less typical than that.

    Returns:
        At most `most` rows with `file`, `given` and `suggested` class, `confidence` (of the suggested),
        `given_confidence` and `threshold` (of the suggested class).
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
    # Stricter than the paper: if the label is still likelier, looking at the photo gains nothing.
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
    """(classes,) mean probability of a class over the photos labelled with it; infinite without photos."""
    images = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=given, minlength=num_classes)
    return np.where(images > 0, sums / np.maximum(images, 1), np.inf)
