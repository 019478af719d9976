import numpy as np
import pytest
from scipy import stats

from fieldguide.report.chosen import chosen
from fieldguide.report.comparison import HEADER, cells, table, to_csv, to_markdown
from fieldguide.report.seeds import seeds_row

VALIDATION, TEST = [0.81, 0.84, 0.86], [0.80, 0.79, 0.85]


def result(validation, test):
    def shares(value):
        return {"accuracy": value, "accuracy_low": value - 0.02, "accuracy_high": value + 0.02, "images": 100}

    return {
        "backbone": "resnet18", "optimizer": "adam", "parameters": {"total": 11_200_000}, "seconds": 90,
        "validation": {**shares(validation), "chose": chosen([3], 4, "validation_loss", "accuracy")},
        "split": {"fingerprint": "same"}, "test": None if test is None else shares(test),
    }  # fmt: skip


def rows(test=TEST):
    return table([(f"a-seed{n}", result(*shares)) for n, shares in enumerate(zip(VALIDATION, test, strict=True))])


def test_mean_deviation_and_interval_are_numpys_and_scipys():
    row = seeds_row("a", rows())
    for part, values in (("validation", VALIDATION), ("test", TEST)):
        assert row[f"{part}_accuracy"] == pytest.approx(np.mean(values), abs=1e-12)
        assert row[f"{part}_deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (row[f"{part}_low"], row[f"{part}_high"]) == pytest.approx((low, high), abs=1e-12)
    assert row["seeds"] == 3 and row["method"] == "a, mean of 3 seeds" and set(row) == set(HEADER)


def test_without_all_tests_there_is_no_mean_of_them():
    row = seeds_row("a", rows(test=[0.8, None, 0.85]))
    assert row["test_accuracy"] is None and cells(row)[5] == "not evaluated"


def test_the_tables_tell_deviation_and_what_the_photos_chose():
    found = [*rows(), seeds_row("a", rows())]
    text = to_markdown(found, ["a against b: not significant", "two\nlines"])
    assert "0.837 ± 0.025 (0.774 to 0.899)" in text and "0.813 ± 0.032 (0.733 to 0.893)" in text
    assert "which also chose the epoch" in text and "± standard deviation over seeds" in text
    assert text.endswith("\n\n- a against b: not significant\n- two lines\n")
    lines = to_csv(found).splitlines()
    assert "chosen on these photos: epoch 3 of 4" in lines[1] and "chosen on these photos: each run's epoch" in lines[4]


def test_no_bound_beyond_what_an_accuracy_can_be_is_shown():
    row = seeds_row("a", table([("a-seed0", result(0.9, 0.9)), ("a-seed1", result(1.0, 1.0))]))
    assert row["validation_high"] > 1 and cells(row)[4].endswith("to 1.000)")


def test_there_is_no_mean_of_test_figures_of_different_photos():
    of_same, of_others = rows(), rows()
    for place, (one, other) in enumerate(zip(of_same, of_others, strict=True)):
        one["test_photos_sha256"], other["test_photos_sha256"] = "x", "xxy"[place]
    assert seeds_row("a", of_same)["test_photos_sha256"] == "x" and seeds_row("a", of_same)["test_accuracy"]
    assert seeds_row("a", of_others)["test_accuracy"] is None and seeds_row("a", of_others)["validation_accuracy"]
    of_same[0]["test_photos_sha256"] = None  # of an earlier version
    assert seeds_row("a", of_same)["test_photos_sha256"] is None and seeds_row("a", of_same)["test_accuracy"]
