import csv
import io

import pytest

from fieldguide.errors import UsageError
from fieldguide.report.chosen import chosen
from fieldguide.report.comparison import HEADER, remarks_on_test, table, to_csv, to_markdown


def result(accuracy, fingerprint="same", test=None, photos=None):
    shares = {"accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.02, "images": 780}
    return {
        "backbone": "resnet18", "optimizer": "adam", "parameters": {"total": 11_200_000}, "seconds": 90,
        "validation": {"accuracy": accuracy, **shares, "chose": chosen([3], 4, "validation_loss", "accuracy")},
        "split": {"fingerprint": fingerprint},
        "test": None if test is None else {**shares, "accuracy": test, "images": 1562, "photos_sha256": photos},
    }  # fmt: skip


def test_the_table_has_the_columns_of_the_report_and_intervals():
    rows = table([("a", result(0.8)), ("b|c", result(0.9, test=0.85))])
    text = to_markdown(rows)
    assert "| method | backbone | optimiser | parameters | validation | test | minutes |" in text
    assert "| a | resnet18 | adam | 11.2M | 0.800 (0.780 to 0.820) | not evaluated | 1.5 |" in text
    assert "b\\|c" in text and "validation: 780 photos, which also chose the epoch; test: 1,562 photos" in text


def test_below_the_table_stands_each_number_of_photos():
    part = result(0.7)
    part["validation"]["images"] = 200  # time was up
    rows = table([("a", result(0.8)), ("b", part), ("c", result(0.9))])
    assert "validation: 200 and 780 photos, which also chose the epoch" in to_markdown(rows)


def test_the_csv_keeps_full_precision():
    rows = list(csv.DictReader(io.StringIO(to_csv(table([("a", result(0.8123456789))])))))
    assert tuple(rows[0]) == HEADER and float(rows[0]["validation_accuracy"]) == 0.8123456789
    assert rows[0]["test_accuracy"] == ""


def test_different_splits_are_not_put_side_by_side():
    with pytest.raises(UsageError, match="different splits, so their figures cannot be compared: a against b"):
        table([("a", result(0.8)), ("b", result(0.9, "other"))])


def test_test_figures_of_different_photos_are_told_and_the_runs_named():
    same = [("a", result(0.8, test=0.95, photos="x")), ("b", result(0.9, test=0.7, photos="x"))]
    assert remarks_on_test(table(same)) == []
    (told,) = remarks_on_test(table([*same, ("c", result(0.9, test=0.9, photos="y")), ("d", result(0.9))]))
    assert told.startswith(
        "the test figures are from different photos, so they cannot be compared: a, b (1,562) against"
    )
    assert "against c (1,562);" in told


def test_of_figures_that_do_not_tell_their_photos_it_is_said_that_this_is_not_known():
    old, new = ("old", result(0.8, test=0.95)), ("new", result(0.9, test=0.7, photos="x"))
    assert remarks_on_test(table([old])) == [] and remarks_on_test(table([old, ("d", result(0.9))])) == []
    (told,) = remarks_on_test(table([old, new]))
    assert told.startswith("the test photos of old are unknown")
