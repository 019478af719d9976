"""A confusion matrix that stays legible."""

import numpy as np

from fieldguide.evaluation.predictions import Predictions
from fieldguide.report.matrix import confusion, shortened


def said(labels: list[int], predicted: list[int], n: int) -> Predictions:
    files = tuple(str(i) for i in range(len(labels)))
    return Predictions(files, np.array(labels), np.eye(n)[predicted], tuple(f"c{i}" for i in range(n)))


def test_only_counts_that_are_not_0_are_kept_with_their_share_of_the_row():
    cells = confusion(said([0, 0, 0, 1], [0, 1, 1, 1], 3)).cells
    assert [(cell.row, cell.column, cell.count) for cell in cells] == [(0, 0, 1), (0, 1, 2), (1, 1, 1)]
    assert cells[1].share == 2 / 3


def test_of_too_many_classes_those_with_the_most_mistakes_are_drawn():
    matrix = confusion(said([0, 1, 2, 2, 3], [0, 1, 3, 3, 3], 4), most_classes=2)
    assert matrix.classes == ("c2", "c3") and matrix.left_out == 2
    assert [(cell.row, cell.column, cell.count) for cell in matrix.cells] == [(0, 1, 2), (1, 1, 1)]


def test_a_hundred_classes_fit_a_wide_screen_and_a_thousand_are_cut_to_what_is_legible():
    assert confusion(said(list(range(100)), list(range(100)), 100)).side_px <= 1_100
    matrix = confusion(said(list(range(1000)), list(range(1000)), 1000))
    assert len(matrix.classes) == 150 and matrix.cell_px >= 11


def test_a_long_name_is_cut():
    assert shortened("a" * 40) == "a" * 17 + "…"
