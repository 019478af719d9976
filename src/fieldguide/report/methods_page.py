"""The table of methods as a page: runs side by side, curves on the same axes, and pairwise comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

from fieldguide.report import charts, comparison
from fieldguide.report.page import render
from fieldguide.report.pairs import Pairs


def methods_page(rows: Sequence[comparison.Row], pairs: Pairs, histories: Mapping[str, charts.Epochs]) -> str:
    """The page of rows of `comparison.table`, with the histories of runs by their names in it."""
    return render(
        "methods.html.j2",
        titles=comparison.TITLES,
        rows=[
            {"cells": comparison.cells(row), "values": [row[key] for key in SORTED_BY], "result": row} for row in rows
        ],
        numbers=NUMBERS,
        footnote=comparison.footnote(rows),
        on_test=comparison.remarks_on_test(rows),
        curves={key: _curves(histories, key) for key in ("loss", "accuracy")} if histories else {},
        without_curves=", ".join(row["method"] for row in rows if row["method"] not in histories),
        pairs=pairs,
    )


def _curves(histories: Mapping[str, charts.Epochs], key: str) -> list[dict[str, Any]]:
    """One chart per method, all on the same axes."""
    limits = charts.limits_of(list(histories.values()), key)
    most_epochs = max(len(history) for history in histories.values())
    return [
        {
            "name": name,
            "epochs": len(history),
            "chart": charts.curve(history, key, f"method-{place}-{key}", limits, most_epochs),
        }
        for place, (name, history) in enumerate(histories.items())
    ]


# The value that sorts each column of `comparison.TITLES`.
SORTED_BY = ("method", "backbone", "optimizer", "parameters", "validation_accuracy", "test_accuracy", "minutes")
NUMBERS = ("parameters", "validation", "test", "minutes")
