"""Intervals and tests where photos belong together: bursts share their fate."""

import numpy as np
import pytest
from scipy.stats import binom

from fieldguide.evaluation.bootstrap import macro_accuracy_interval
from fieldguide.evaluation.clusters import flip_test, joined_groups, share_interval, worth
from fieldguide.evaluation.comparison import compare_predictions, mcnemar_exact
from fieldguide.evaluation.intervals import wilson
from fieldguide.evaluation.metrics import class_table, judge
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions

DRAWS, FALSE_ALARM = 400, 1e-4


def bursts(draw, count, size, right, noise):
    """(photos,) bool: the photos of a burst are right or wrong together, but for a share of them."""
    return np.repeat(draw.random(count) < right, size) ^ (draw.random(count * size) < noise)


def predictions(right, groups=None):
    labels = np.zeros(len(right), dtype=np.int64)
    logits = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)
    return Predictions(tuple(f"{n:05d}.jpg" for n in range(len(right))), labels, logits, ("ash", "oak"), groups)


def test_photos_that_stand_for_themselves_are_worth_themselves():
    right = np.array([True] * 90 + [False] * 10)
    alone = np.arange(100)
    assert worth(right.astype(float), alone) == 100 and joined_groups(alone) is None and joined_groups(None) is None
    assert share_interval(right, alone) == share_interval(right) == wilson(90, 100)


def test_photos_that_always_share_their_fate_are_worth_their_groups():
    right, groups = np.repeat([True] * 16 + [False] * 4, 10), np.repeat(np.arange(20), 10)
    low, high = share_interval(right, groups)
    plain_low, plain_high = wilson(16, 20)
    assert low < plain_low and high > plain_high  # as 20 photos, and a little less for so few groups
    assert worth(right.astype(float), groups, small=False) == pytest.approx(19)
    all_right = np.ones(200, dtype=bool)
    assert worth(all_right.astype(float), groups, small=False) == 20
    assert share_interval(all_right, np.zeros(200, dtype=np.int64)) == (0.0, 1.0)


def test_the_interval_covers_where_that_of_independent_photos_does_not():
    draw, groups, truth = np.random.default_rng(0), np.repeat(np.arange(30), 10), 0.8 * 0.95 + 0.2 * 0.05
    covered = plain = 0
    for _ in range(DRAWS):
        right = bursts(draw, 30, 10, 0.8, 0.05)
        low, high = share_interval(right, groups)
        covered += low <= truth <= high
        low, high = wilson(int(right.sum()), 300)
        plain += low <= truth <= high
    assert covered >= binom.ppf(FALSE_ALARM, DRAWS, 0.93) and plain < 0.65 * DRAWS


def test_equally_good_models_are_rarely_told_apart_where_bursts_share_their_fate():
    draw, groups = np.random.default_rng(1), np.repeat(np.arange(30), 10)
    shown = plain = 0
    for _ in range(DRAWS):
        a, b = (bursts(draw, 30, 10, 0.8, 0.05) for _ in range(2))
        shown += flip_test(a.astype(np.int64) - b, groups) < 0.05
        plain += mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
    assert shown <= binom.ppf(1 - FALSE_ALARM, DRAWS, 0.05) and plain > 0.3 * DRAWS


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (7, 2), (30, 30), (120, 60)])
def test_without_groups_the_test_is_mcnemars(only_a, only_b):
    differences = np.array([1] * only_a + [-1] * only_b + [0] * 20)
    assert flip_test(differences, np.arange(len(differences))) == pytest.approx(mcnemar_exact(only_a, only_b))


def test_every_sign_of_every_group_counts():
    """Groups of 3, 2 and 1 more for the first: of eight sums, two are as far from 0 as 6."""
    differences, groups = np.array([1, 1, 1, 1, 1, 0, 1]), np.array([5, 5, 5, 7, 7, 7, 9])
    assert flip_test(differences, groups) == pytest.approx(2 / 8)
    assert flip_test(-differences, groups) == pytest.approx(2 / 8)


def test_a_comparison_counts_for_groups_and_says_so():
    groups = np.repeat(np.arange(6), 10)
    a = predictions(np.ones(60, dtype=bool), groups)
    b = predictions(np.repeat([True, True, True, True, False, False], 10))
    found, plain = compare_predictions(a, b), compare_predictions(predictions(a.predicted() == 0), b)
    assert plain.shown and not found.shown and found.p_value == pytest.approx(0.5) and found.groups == 6
    assert found.difference == plain.difference and found.difference_low < plain.difference_low
    assert found.accuracy_b_low < plain.accuracy_b_low
    said = found.sentence("A", "B")
    assert "not significant at n = 60 in 6 groups" in said and "; sign-flip test of groups p = 0.5)" in said
    assert plain.groups is None and ", McNemar p " in plain.sentence("A", "B") and "McNemar" not in said
    assert compare_predictions(b, a).p_value == found.p_value  # whichever of the two knows the groups


def burst_by_burst(only_a, only_b, count, size):
    """Two models on bursts in each of which A alone is right so often, and B alone so often."""
    right_a, right_b = np.ones((2, count, size), dtype=bool)
    right_b[:, :only_a] = False
    right_a[:, only_a : only_a + only_b] = False
    groups = np.repeat(np.arange(count), size)
    return compare_predictions(predictions(right_a.ravel(), groups), predictions(right_b.ravel(), groups))


def test_of_groups_a_difference_is_shown_only_where_the_interval_leaves_out_0_as_well():
    found = burst_by_burst(3, 2, 20, 10)
    assert found.p_value == pytest.approx(2 / 2**20) and found.difference_low < 0 < found.difference
    assert not found.shown and found.as_dict()["shown"] is False
    assert found.sentence("A", "B").startswith(
        "A against B: not significant at n = 200 in 20 groups (difference 10.0 points, -0."
    )
    for clear, better in ((burst_by_burst(4, 1, 20, 10), "A"), (burst_by_burst(1, 4, 20, 10), "B")):
        assert clear.shown and clear.sentence("A", "B").startswith(
            f"{better} beats {'AB'.strip(better)} by 30.0 points ("
        )


def test_figures_count_for_groups():
    right, groups = np.repeat([True] * 16 + [False] * 4, 10), np.repeat(np.arange(20), 10)
    said = predictions(right, groups)
    grouped, plain = (judge(said.probabilities(), said.labels, said.classes, each) for each in (groups, None))
    assert grouped["groups"] == 20 and "groups" not in plain and grouped["accuracy"] == plain["accuracy"]
    assert (grouped["accuracy_low"], grouped["accuracy_high"]) == share_interval(right, groups)
    assert grouped["macro_accuracy_low"] < plain["macro_accuracy_low"]
    assert judge(said.probabilities(), said.labels, said.classes, np.arange(200)) == plain


def test_a_class_without_groups_enters_macro_accuracy_as_ever():
    draw = np.random.default_rng(3)
    labels, predicted = np.repeat(np.arange(4), 30), np.repeat(np.arange(4), 30)
    predicted[draw.random(120) < 0.2] = 0
    groups = np.arange(120)
    predicted[30:32] = 0
    groups[31] = groups[30]  # two photos of the second class, wrong together
    plain, grouped = (macro_accuracy_interval(labels, predicted, 4, groups=each) for each in (None, groups))
    assert grouped != plain and grouped == pytest.approx(plain, abs=0.015)


def test_the_intervals_of_single_classes_count_for_groups():
    right, groups = np.repeat([True] * 5 + [False] + [True] * 4, 10), np.repeat(np.arange(10), 10)
    labels, places = np.repeat([0, 1], [60, 40]), np.arange(100)
    predicted = np.where(right, labels, 1 - labels)
    rows = {
        name: class_table(labels, predicted, ("ash", "oak", "yew"), each)
        for name, each in (("plain", None), ("alone", places), ("grouped", groups))
    }
    assert rows["plain"] == rows["alone"] and rows["plain"][2]["recall"] is None
    assert (rows["plain"][0]["recall_low"], rows["plain"][0]["recall_high"]) == pytest.approx(wilson(50, 60))
    assert (rows["plain"][1]["precision_low"], rows["plain"][1]["precision_high"]) == pytest.approx(wilson(40, 50))
    for plain, grouped in zip(rows["plain"][:2], rows["grouped"][:2], strict=True):
        assert plain["recall"] == grouped["recall"] and plain["precision"] == grouped["precision"]
        assert grouped["recall_low"] < plain["recall_low"] and grouped["precision_low"] < plain["precision_low"]
    # the second class's four groups are all right: four photos, and fewer for being so few; a single one counts as one
    one = class_table(labels[60:70], predicted[60:70], ("ash", "oak"), groups[60:70])[1]
    assert (one["recall_low"], one["recall_high"]) == pytest.approx(wilson(1, 1))
    assert rows["grouped"][1]["recall_low"] < wilson(4, 4)[0]


def test_a_class_of_few_bursts_is_covered():
    """Six bursts of five: 90 %, where single photos cover 63 % (benchmarks/groups.py)."""
    draw, groups, truth = np.random.default_rng(0), np.repeat(np.arange(6), 5), 0.8 * 0.95 + 0.2 * 0.05
    covered = plain = 0
    for _ in range(DRAWS):
        predicted = 1 - bursts(draw, 6, 5, 0.8, 0.05).astype(np.int64)  # the class is 0
        grouped, alone = (class_table(np.zeros_like(predicted), predicted, "ab", each)[0] for each in (groups, None))
        covered += grouped["recall_low"] <= truth <= grouped["recall_high"]
        plain += alone["recall_low"] <= truth <= alone["recall_high"]
    assert covered >= binom.ppf(FALSE_ALARM, DRAWS, 0.9) and plain < 0.75 * DRAWS


def test_groups_are_kept_with_predictions_and_older_files_have_none(tmp_path):
    groups = np.array([0, 0, 4])
    write_predictions(tmp_path / "p.npz", predictions(np.ones(3, dtype=bool), groups))
    assert read_predictions(tmp_path / "p.npz").groups.tolist() == [0, 0, 4]
    write_predictions(tmp_path / "p.npz", predictions(np.ones(3, dtype=bool)))
    assert read_predictions(tmp_path / "p.npz").groups is None
    with pytest.raises(ValueError, match="3 files, groups are int64 of"):
        predictions(np.ones(3, dtype=bool), np.array([0, 1]))
