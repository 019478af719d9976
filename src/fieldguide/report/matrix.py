"""A confusion matrix as sparse plain data, so that a page with a hundred classes stays legible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fieldguide.evaluation.predictions import Predictions

MOST_CLASSES = 150  # with more, labels are too small: only the classes with most mistakes are drawn
WIDTH_PX, SMALLEST_PX, LARGEST_PX, LABEL_LETTERS = 1_080, 11, 44, 18


@dataclass(frozen=True)
class Cell:
    """One count that is not 0.

    `row` is the place of the actual class, `column` of the predicted one; `share` is of the photos of the actual class.
    """

    row: int
    column: int
    count: int
    share: float


@dataclass(frozen=True)
class Matrix:
    """What is drawn.

    `labels` are the classes' names, shortened to fit; `left_out` is the number of classes that are not drawn.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    images: tuple[int, ...]
    cells: tuple[Cell, ...]
    cell_px: int
    left_out: int

    @property
    def side_px(self) -> int:
        """Of the whole matrix without its labels."""
        return self.cell_px * len(self.classes)


def confusion(predictions: Predictions, most_classes: int = MOST_CLASSES) -> Matrix:
    """Counts of actual against predicted classes; if there are too many, those with fewest mistakes are left out."""
    n = len(predictions.classes)
    pairs = predictions.labels * n + predictions.predicted()
    counts = np.bincount(pairs, minlength=n * n).reshape(n, n)  # (actual, predicted)
    images, chosen = counts.sum(axis=1), _drawn(counts, most_classes)
    names = tuple(predictions.classes[i] for i in chosen)
    part = counts[np.ix_(chosen, chosen)]
    return Matrix(
        classes=names,
        labels=tuple(shortened(name) for name in names),
        images=tuple(images[chosen].tolist()),
        cells=tuple(_cells(part, images[chosen].tolist())),
        cell_px=int(np.clip(WIDTH_PX // len(names), SMALLEST_PX, LARGEST_PX)),
        left_out=n - len(names),
    )


def _drawn(counts: npt.NDArray[np.int64], most_classes: int) -> list[int]:
    if len(counts) <= most_classes:
        return list(range(len(counts)))
    mistakes = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
    return sorted(np.argsort(-mistakes, kind="stable")[:most_classes].tolist())


def _cells(counts: npt.NDArray[np.int64], images: Sequence[int]) -> list[Cell]:
    return [Cell(int(i), int(j), int(counts[i, j]), int(counts[i, j]) / images[i]) for i, j in np.argwhere(counts)]


def shortened(name: str, most: int = LABEL_LETTERS) -> str:
    """A name that fits beside the matrix."""
    return name if len(name) <= most else name[: most - 1] + "…"
