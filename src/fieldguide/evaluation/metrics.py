"""Figures from probabilities and labels; counts are summed and divided once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from fieldguide.evaluation.intervals import wilson

SMALLEST_PROBABILITY = 1e-12


def judge(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """Everything that predictions say about a classifier.

    Args:
        probabilities: (photos, classes), each row summing to 1.
        labels: (photos,) indices of the true classes.
        classes: names, in the order of the columns.

    Returns:
        Plain data: `images`, `loss` (nats), `accuracy` with `accuracy_low` and `accuracy_high` (95 %, Wilson),
        `top5_accuracy` (None below 6 classes), `macro_accuracy` (mean recall of the classes that have photos),
        `per_class` and `confused_pairs`.

    Raises:
        ValueError: no photos, or arrays that do not go together.
    """
    if len(labels) == 0 or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(f"{len(labels)} labels, probabilities {probabilities.shape}, {len(classes)} classes")
    predicted = probabilities.argmax(axis=1)
    images, correct = len(labels), int((predicted == labels).sum())
    low, high = wilson(correct, images)
    matrix = confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    per_class = class_table(matrix, classes)
    recalls = [row["recall"] for row in per_class if row["images"]]
    of_truth = probabilities[np.arange(images), labels]
    return {
        "images": images,
        "loss": float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).sum() / images),
        "accuracy": correct / images,
        "accuracy_low": low,
        "accuracy_high": high,
        "top5_accuracy": top_k(probabilities, labels, 5) if len(classes) > 5 else None,
        "macro_accuracy": sum(recalls) / len(recalls),
        "per_class": per_class,
        "confused_pairs": confused_pairs(matrix, classes),
    }


def top_k(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], k: int) -> float:
    """Share of photos whose class is among the `k` most probable; of equal ones, the first count as more probable."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return int((order == labels[:, None]).any(axis=1).sum()) / len(labels)


def class_table(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: photos, right ones, recall and precision; None where there is nothing to divide by.

    Args:
        matrix: (true class, predicted class) counts.
        classes: names.
    """
    rows = []
    for index, name in enumerate(classes):
        images, predicted, correct = int(matrix[index].sum()), int(matrix[:, index].sum()), int(matrix[index, index])
        rows.append(
            {
                "class": name,
                "images": images,
                "correct": correct,
                "recall": correct / images if images else None,
                "predicted": predicted,
                "precision": correct / predicted if predicted else None,
            }
        )
    return rows


def confused_pairs(matrix: npt.NDArray[np.int64], classes: Sequence[str], most: int = 20) -> list[dict[str, Any]]:
    """The most frequent mistakes, most frequent first: `actual`, `predicted`, `count`, `images` of the actual class."""
    pairs = [
        {"actual": classes[i], "predicted": classes[j], "count": int(matrix[i, j]), "images": int(matrix[i].sum())}
        for i, j in np.argwhere(matrix)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-int(str(pair["count"])), str(pair["actual"]), str(pair["predicted"])))[
        :most
    ]
