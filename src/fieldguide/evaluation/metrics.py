"""Figures from probabilities and labels; counts are summed, then divided once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from fieldguide.evaluation.bootstrap import macro_accuracy_interval
from fieldguide.evaluation.clusters import Groups, joined_groups, share_interval, worth_each
from fieldguide.evaluation.intervals import wilson_each

SMALLEST_PROBABILITY = 1e-12
ROWS_AT_ONCE = 1_024


def judge(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    groups: Groups | None = None,
) -> dict[str, Any]:
    """All figures of a classifier, from its predictions.

    Args:
        probabilities: (photos, classes), each row summing to 1.
        labels: (photos,) indices of the true classes.
        classes: names, in the order of the columns.
        groups: (photos,) numbers; photos of one number belong together. None: single photos.

    Returns:
        Plain data: `images`, `groups` (how many, if photos belong together; all intervals account for it), `loss`
        (nats), `accuracy` with `accuracy_low` and `accuracy_high` (95 %, Wilson), `top5_accuracy` (None below 6
        classes, and so are its bounds, named alike),
        `macro_accuracy` (mean recall of the classes that have photos) with `macro_accuracy_low` and
        `macro_accuracy_high` (95 %, stratified bootstrap), `per_class` and `confused_pairs`.

    Raises:
        ValueError: no photos, or arrays that do not go together.
    """
    if len(labels) == 0 or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(f"{len(labels)} labels, probabilities {probabilities.shape}, {len(classes)} classes")
    predicted = probabilities.argmax(axis=1)
    right, joined = predicted == labels, joined_groups(groups)
    images, correct = len(labels), int(right.sum())
    low, high = share_interval(right, groups)
    macro_low, macro_high = macro_accuracy_interval(labels, predicted, len(classes), groups=groups)
    among = top_k(probabilities, labels, 5) if len(classes) > 5 else None
    top5_low, top5_high = (None, None) if among is None else share_interval(among, groups)
    matrix = confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    per_class = class_table(labels, predicted, classes, groups)
    recalls = [row["recall"] for row in per_class if row["images"]]
    of_truth = probabilities[np.arange(images), labels]
    return {
        "images": images,
        **({} if joined is None else {"groups": joined}),
        "loss": float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).sum() / images),
        "accuracy": correct / images,
        "accuracy_low": low,
        "accuracy_high": high,
        "top5_accuracy": None if among is None else int(among.sum()) / images,
        "top5_accuracy_low": top5_low,
        "top5_accuracy_high": top5_high,
        "macro_accuracy": sum(recalls) / len(recalls),
        "macro_accuracy_low": macro_low,
        "macro_accuracy_high": macro_high,
        "per_class": per_class,
        "confused_pairs": confused_pairs(matrix, classes),
    }


def top_k(probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
    """(photos,) whether the class is among the `k` most probable; of equal ones, the first count as more probable."""
    places = np.arange(probabilities.shape[1])
    ahead = np.empty(len(labels), np.int64)  # classes more probable than the true one
    for start in range(0, len(labels), ROWS_AT_ONCE):  # sorting all classes of all photos would take gigabytes
        block = slice(start, start + ROWS_AT_ONCE)
        rows, truth = probabilities[block], labels[block, None]
        of_truth = np.take_along_axis(rows, truth, axis=1)
        ahead[block] = ((rows > of_truth) | ((rows == of_truth) & (places < truth))).sum(axis=1)
    return ahead < k


def class_table(
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    classes: Sequence[str],
    groups: Groups | None = None,
) -> list[dict[str, Any]]:
    """One row per class: photos, right ones, recall and precision, each with its 95 % interval (Wilson).

    A share without photos is None. If photos of a class belong together, the interval is for their effective number
    (`clusters.worth`), at least one photo, as for a single group.
    """
    right = predicted == labels
    images, answers, correct = (np.bincount(of, minlength=len(classes)) for of in (labels, predicted, labels[right]))
    recall = share_columns("recall", correct, images, worth_each(right, labels, len(classes), groups))
    precision = share_columns("precision", correct, answers, worth_each(right, predicted, len(classes), groups))
    return [
        {
            "class": name,
            "images": int(images[index]),
            "correct": int(correct[index]),
            **recall[index],
            "predicted": int(answers[index]),
            **precision[index],
        }
        for index, name in enumerate(classes)
    ]


def confusion(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """The whole table of mistakes: `confusion_matrix` (a row per actual class, a column per predicted one), `f1` per
    class (None for a class without photos and predictions), and their mean over classes with photos, `macro_f1`.
    """
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    images, answers, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    found = [2 * r / (i + a) if i + a else None for r, i, a in zip(right.tolist(), images, answers, strict=True)]
    judged = [float(value) for value, count in zip(found, images, strict=True) if count and value is not None]
    return {
        "macro_f1": sum(judged) / len(judged) if judged else None,
        "f1": {name: None if value is None else float(value) for name, value in zip(classes, found, strict=True)},
        "confusion_matrix": {"classes": list(classes), "rows": matrix.tolist()},
    }


def share_columns(
    name: str, successes: npt.NDArray[np.int64], trials: npt.NDArray[np.int64], worth: npt.NDArray[np.float64]
) -> list[dict[str, float | None]]:
    """For each share, `name`, `name_low` and `name_high` (95 %, Wilson, for `worth` trials); None without trials."""
    values = successes / np.maximum(trials, 1)  # (shares,)
    low, high = wilson_each(successes * (worth / np.maximum(trials, 1)), worth)
    shares = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    names = (name, f"{name}_low", f"{name}_high")
    return [
        dict(zip(names, values if known else (None, None, None), strict=True))
        for values, known in zip(shares, trials > 0, strict=True)
    ]


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
