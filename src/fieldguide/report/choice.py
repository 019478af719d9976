"""The photos that a report shows, chosen from the predictions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.predictions import Predictions

Floats = npt.NDArray[np.float64]
PAIRS, PHOTOS_A_PAIR, MISTAKES, UNSURE, LABELS = 8, 2, 12, 12, 12


@dataclass(frozen=True)
class Pair:
    """Two classes, one of which is mistaken for the other.

    Attributes:
        actual, predicted: classes.
        count: photos of `actual` predicted as `predicted`.
        images: photos of `actual`.
        photos: files of some mistakes, most confident first.
        example: file of the most confident right answer for `predicted`; None if there is none.
    """

    actual: str
    predicted: str
    count: int
    images: int
    photos: tuple[str, ...]
    example: str | None


@dataclass(frozen=True)
class Choice:
    """The photos that a report shows, by their files.

    Attributes:
        pairs: the most confused.
        worst: mistakes, most confident first.
        least_sure: least confident first, right or wrong.
        label_errors: likely label errors, as rows of `evaluation.label_errors.suspects`.
    """

    pairs: tuple[Pair, ...]
    worst: tuple[str, ...]
    least_sure: tuple[str, ...]
    label_errors: tuple[dict[str, Any], ...]

    def files(self) -> list[str]:
        """All photos, each once."""
        of_pairs = [file for pair in self.pairs for file in (*pair.photos, *([pair.example] if pair.example else []))]
        suspected = [str(row["file"]) for row in self.label_errors]
        return list(dict.fromkeys([*of_pairs, *self.worst, *self.least_sure, *suspected]))

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def choose(predictions: Predictions, probabilities: Floats, suspected: Sequence[dict[str, Any]]) -> Choice:
    """Chooses what to show."""
    surest = probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions.predicted() != predictions.labels)
    worst = wrong[np.argsort(-surest[wrong], kind="stable")][:MISTAKES]
    least = np.argsort(surest, kind="stable")[:UNSURE]
    return Choice(
        pairs=tuple(_pairs(predictions, probabilities)),
        worst=tuple(predictions.files[row] for row in worst),
        least_sure=tuple(predictions.files[row] for row in least),
        label_errors=tuple(suspected[:LABELS]),
    )


def _pairs(predictions: Predictions, probabilities: Floats) -> list[Pair]:
    labels, predicted = predictions.labels, predictions.predicted()
    wrong = labels != predicted
    found, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    images = np.bincount(labels, minlength=len(predictions.classes))
    # Of equally frequent pairs, the one with the larger share comes first.
    order: list[int] = np.lexsort((-counts / np.maximum(images[found[:, 0]], 1), -counts)).tolist()
    return [
        _pair(predictions, probabilities[:, found[i, 1]], found[i].tolist(), int(counts[i]), int(images[found[i, 0]]))
        for i in order[:PAIRS]
    ]


def _pair(predictions: Predictions, confidence: Floats, pair: Sequence[int], count: int, images: int) -> Pair:
    """One pair of (actual, predicted) class; `confidence` is each photo's probability of the predicted one."""
    labels, predicted, (actual, taken_for) = predictions.labels, predictions.predicted(), pair
    mistakes = np.flatnonzero((labels == actual) & (predicted == taken_for))
    right = np.flatnonzero((labels == taken_for) & (predicted == taken_for))
    shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:PHOTOS_A_PAIR]
    return Pair(
        predictions.classes[actual],
        predictions.classes[taken_for],
        count,
        images,
        tuple(predictions.files[row] for row in shown),
        predictions.files[right[confidence[right].argmax()]] if len(right) else None,
    )
