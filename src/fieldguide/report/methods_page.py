"""The table of methods as a page: runs side by side, their curves on the same axes, and what their photos show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.evaluation.comparison import compare_predictions
from fieldguide.evaluation.predictions import Predictions
from fieldguide.report import charts, comparison
from fieldguide.report.page import render


@dataclass(frozen=True)
class Method:
    """A run of the table.

    Attributes:
        name: as in the table.
        history: a line an epoch.
        predictions: of validation; None in a run that kept none.
    """

    name: str
    history: list[dict[str, Any]]
    predictions: Predictions | None


def methods_page(rows: Sequence[comparison.Row], methods: Sequence[Method]) -> str:
    """The page.

    Args:
        rows: of `comparison.table`.
        methods: the same runs, in the same order.
    """
    return render(
        "methods.html.j2",
        titles=comparison.TITLES,
        rows=[
            {"cells": comparison.cells(row), "values": [row[key] for key in SORTED_BY], "result": row} for row in rows
        ],
        numbers=NUMBERS,
        footnote=comparison.footnote(rows),
        curves={key: _curves(methods, key) for key in ("loss", "accuracy")},
        sentences=list(_verdicts(rows, methods)),
        without=[method.name for method in methods if method.predictions is None],
    )


def _curves(methods: Sequence[Method], key: str) -> list[dict[str, Any]]:
    """A chart a method, all on the same axes."""
    histories = [method.history for method in methods]
    limits, most_epochs = charts.limits_of(histories, key), max(len(history) for history in histories)
    return [
        {
            "name": method.name,
            "epochs": len(method.history),
            "chart": charts.curve(method.history, key, f"method-{place}-{key}", limits, most_epochs),
        }
        for place, method in enumerate(methods)
    ]


# What each column of `comparison.TITLES` is sorted by.
SORTED_BY = ("method", "backbone", "optimizer", "parameters", "validation_accuracy", "test_accuracy", "minutes")
NUMBERS = ("parameters", "validation", "test", "minutes")


def _verdicts(rows: Sequence[comparison.Row], methods: Sequence[Method]) -> Iterator[str]:
    """The method that is best on validation against each of the others, paired by photo."""
    kept = [
        (row["validation_accuracy"], method) for row, method in zip(rows, methods, strict=True) if method.predictions
    ]
    if len(kept) < 2:
        return
    best = max(kept, key=lambda pair: pair[0])[1]
    for _, other in kept:
        if other is best:
            continue
        assert best.predictions is not None and other.predictions is not None
        try:
            found = compare_predictions(best.predictions, other.predictions, best.name, other.name)
            yield found.sentence(best.name, other.name, ("epoch", "best method"))
        except UsageError as error:
            yield str(error)
