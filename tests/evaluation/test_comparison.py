"""Pairing, McNemar and the sentence."""

import re

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from fieldguide.errors import UsageError
from fieldguide.evaluation.comparison import (
    compare_predictions,
    in_points,
    mcnemar_exact,
    p_text,
    selection_note,
)
from fieldguide.evaluation.intervals import paired_difference, wilson
from fieldguide.evaluation.predictions import Predictions

CLASSES = ("cat", "dog")


def predictions(right, files=None, labels=None, classes=CLASSES):
    """Predictions that are right where `right` says so."""
    labels = np.arange(len(right)) % 2 if labels is None else np.array(labels)
    chosen = np.where(right, labels, 1 - labels)
    files = tuple(f"{i}.jpg" for i in range(len(right))) if files is None else files
    return Predictions(files, labels, np.eye(2)[chosen] * 3, classes)


def two_models(both, only_a, only_b, neither):
    right_a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    right_b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return predictions(right_a), predictions(right_b)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (20, 8), (8, 20), (300, 251), (0, 60)])
def test_mcnemars_exact_test_agrees_with_statsmodels(only_a, only_b):
    expected = mcnemar([[50, only_a], [only_b, 7]], exact=True).pvalue
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_comparison_holds_the_counts_and_each_figure_with_its_interval():
    found = compare_predictions(*two_models(70, 12, 5, 13))
    assert (found.n, found.only_a, found.only_b) == (100, 12, 5)
    assert (found.accuracy_a, found.accuracy_b, found.difference) == (0.82, 0.75, 0.07)
    assert (found.accuracy_a_low, found.accuracy_a_high) == wilson(82, 100)
    assert (found.accuracy_b_low, found.accuracy_b_high) == wilson(75, 100)
    assert (found.difference_low, found.difference_high) == paired_difference(12, 5, 100)
    assert found.p_value == mcnemar_exact(12, 5)
    assert found.as_dict()["shown"] is False


def test_photos_are_paired_by_name_and_classes_too_in_whatever_order_they_stand():
    a, b = two_models(70, 12, 5, 13)
    order = np.random.default_rng(0).permutation(100)
    turned = Predictions(
        tuple(b.files[i] for i in order), 1 - b.labels[order], b.logits[order][:, ::-1].copy(), CLASSES[::-1]
    )
    assert compare_predictions(a, turned) == compare_predictions(a, b)


def test_other_photos_are_refused_and_counted():
    a = predictions([True] * 3, files=("x", "y", "z"))
    b = predictions([True] * 2, files=("x", "w"))
    with pytest.raises(UsageError, match=re.escape("same photos: 2 only in old, 1 only in new (such as w)")):
        compare_predictions(a, b, "old", "new")


def test_another_class_of_the_same_photo_is_refused_and_counted():
    a, b = predictions([True] * 3, labels=[0, 1, 1]), predictions([True] * 3, labels=[0, 0, 0])
    with pytest.raises(UsageError, match=re.escape("2 photos have different classes in A and B (such as 1.jpg)")):
        compare_predictions(a, b)


def test_no_photos_are_refused():
    with pytest.raises(UsageError, match="A and B have no evaluated photos"):
        compare_predictions(predictions([]), predictions([]))


def test_a_difference_that_is_shown_is_said_with_its_doubt():
    found = compare_predictions(*two_models(716, 30, 14, 20))
    low, high = (f"{100 * bound:.1f}" for bound in paired_difference(30, 14, 780))
    assert found.shown
    expected = f"old beats new by 2.1 points ({low} to {high}; n = 780, McNemar p = 0.023)"
    assert found.sentence("old", "new") == expected


def test_the_sentence_is_seen_from_the_better_one():
    found = compare_predictions(*two_models(716, 14, 30, 20))
    assert found.sentence("old", "new").startswith("new beats old by 2.1 points (0.")


def test_a_difference_that_is_not_shown_is_said_to_be_so():
    sentence = compare_predictions(*two_models(716, 23, 21, 20)).sentence("A", "B")
    assert re.fullmatch(
        r"A against B: not significant at n = 780 \(difference 0\.3 points, -1\.\d to 2\.\d; McNemar p = 0\.88\)",
        sentence,
    )


def test_two_equal_models_do_not_differ_and_that_is_said_with_its_doubt():
    sentence = compare_predictions(*two_models(96, 0, 0, 4)).sentence("A", "B")
    assert sentence == "A against B: not significant at n = 100 (difference 0.0 points, -3.7 to 3.7; McNemar p = 1)"


def test_where_the_interval_leaves_out_0_and_the_exact_test_does_not_reject_nothing_is_shown():
    found = compare_predictions(*two_models(80, 10, 3, 7))
    assert found.difference_low < 0 < found.p_value - 0.05
    found = compare_predictions(*two_models(80, 6, 0, 14))
    assert found.shown
    found = compare_predictions(*two_models(80, 5, 0, 15))
    assert found.difference_low > 0
    assert found.p_value == 0.0625
    assert not found.shown
    assert found.sentence("A", "B").startswith("A against B: not significant at n = 100 (difference 5.0 points, ")


@pytest.mark.slow
@pytest.mark.parametrize("both", [0, 200])
def test_where_each_photo_stands_for_itself_the_exact_test_alone_decides(both):
    for only_a in range(0, 60, 3):
        for only_b in range(0, 60, 3):
            found = compare_predictions(*two_models(both, only_a, only_b, 1))
            assert found.shown == (mcnemar_exact(only_a, only_b) < 0.05)


def test_what_the_photos_chose_is_said_behind_the_figure():
    sentence = compare_predictions(*two_models(716, 30, 14, 20)).sentence("A", "B", chose=["epoch", "recipe"])
    assert sentence.endswith("; these photos also chose the epoch and the recipe, so the figure is optimistic")
    assert selection_note([]) == ""


def test_points_are_not_rounded_to_nothing():
    assert in_points(0.021, 0.004, -0.038) == ["2.1", "0.4", "-3.8"]
    assert in_points(0.011, 0.0003, 0.02) == ["1.10", "0.03", "2.00"]
    assert in_points(0.0, -1e-9, 0.02) == ["0.0000", "0.0000", "2.0000"]


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.0161, "= 0.016"),
        (0.0496, "= 0.0496"),
        (0.05003, "= 0.05003"),
        (0.77, "= 0.77"),
        (1e-9, "< 0.001"),
        (1.0, "= 1"),
    ],
)
def test_a_p_value_is_rounded_but_not_onto_the_limit(p_value, text):
    assert p_text(p_value) == text
