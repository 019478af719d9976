import pytest

from fieldguide.training.state import Scores


def test_macro_accuracy_is_the_mean_recall_of_the_classes_that_have_photos():
    scores = Scores(12, 6.0, 10, (10, 0, 2), (9, 0, 1))
    assert scores.macro_accuracy == pytest.approx((0.9 + 0.5) / 2) and scores.accuracy == 10 / 12
    assert scores.accuracy_by("macro_accuracy") == scores.macro_accuracy
    assert scores.accuracy_by("accuracy") == scores.accuracy


def test_scores_that_nobody_counted_by_class_have_no_macro_accuracy_and_say_none():
    scores = Scores(12, 6.0, 10)
    assert scores.macro_accuracy is None
    assert scores.to_dict() == {"images": 12, "loss": 0.5, "accuracy": 10 / 12}


def test_a_line_of_the_history_has_the_macro_accuracy():
    assert Scores(4, 2.0, 3, (3, 1), (3, 0)).to_dict() == {
        "images": 4, "loss": 0.5, "accuracy": 0.75, "macro_accuracy": 0.5,
    }  # fmt: skip
