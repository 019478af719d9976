"""Macro accuracy's interval against resampled photos, Wilson's interval, and the coverage it promises."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from fieldguide.evaluation.bootstrap import macro_accuracy_interval
from fieldguide.evaluation.intervals import wilson

FOUR = ([30, 24], [40, 36], [25, 10], [60, 57])  # photos and right ones of each class


def classified(*counts):
    """Labels and predictions with so many photos and right ones a class."""
    labels = np.repeat(np.arange(len(counts)), [images for images, _ in counts])
    right = np.concatenate([np.arange(images) < correct for images, correct in counts])
    return labels, np.where(right, labels, (labels + 1) % len(counts))


@pytest.mark.slow
def test_the_bounds_are_those_of_resampled_photos():
    labels, predicted = classified(*FOUR)
    random, rows = np.random.default_rng(1), [np.flatnonzero(labels == c) for c in range(4)]
    means = []
    for _ in range(2000):
        drawn = np.concatenate([random.choice(row, len(row)) for row in rows])
        means.append(balanced_accuracy_score(labels[drawn], predicted[drawn]))
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose(macro_accuracy_interval(labels, predicted, 4), expected, atol=0.004)


def test_the_bounds_are_near_those_of_the_normal_approximation():
    labels, predicted = classified(*FOUR)
    recall, images = np.array([24 / 30, 36 / 40, 10 / 25, 57 / 60]), np.array([30, 40, 25, 60])
    half = stats.norm.ppf(0.975) * np.sqrt((recall * (1 - recall) / images).sum()) / 4
    expected = recall.mean() - half, recall.mean() + half
    np.testing.assert_allclose(macro_accuracy_interval(labels, predicted, 4, 50_000), expected, atol=0.004)


def test_the_same_seed_gives_the_same_bounds_and_another_nearly_the_same():
    labels, predicted = classified(*FOUR)
    bounds = [macro_accuracy_interval(labels, predicted, 4, seed=seed) for seed in (0, 0, 1)]
    assert bounds[0] == bounds[1]
    np.testing.assert_allclose(bounds[0], bounds[2], atol=0.01)


@pytest.mark.parametrize("correct", [0, 20])
def test_a_single_class_without_spread_gets_wilsons_interval(correct):
    labels, right = np.zeros(20, dtype=np.int64), np.arange(20) < correct
    found = macro_accuracy_interval(labels, np.where(right, 0, 1), 2)
    assert found == pytest.approx(wilson(correct, 20), abs=1e-9)


def test_perfect_classes_join_by_the_squares_of_their_distances():
    labels, predicted = classified([20, 20], [50, 50])
    distances = (1 - wilson(20, 20)[0]) / 2, (1 - wilson(50, 50)[0]) / 2
    low, high = macro_accuracy_interval(labels, predicted, 2)
    assert low == pytest.approx(1 - np.hypot(*distances), abs=1e-9)
    assert high == 1


def test_a_perfect_class_widens_the_interval_downwards_only():
    labels, predicted = classified([20, 20], [50, 40])
    low, high = macro_accuracy_interval(labels, predicted, 2)
    plain_low, plain_high = (np.array(macro_accuracy_interval(*classified([50, 40], [0, 0]), 2)) + 1) / 2
    assert low == pytest.approx(0.9 - np.hypot(0.9 - plain_low, (1 - wilson(20, 20)[0]) / 2), abs=1e-9)
    assert high == pytest.approx(plain_high, abs=1e-9)


def test_classes_without_photos_take_no_part():
    labels, predicted = classified(*FOUR)
    assert macro_accuracy_interval(labels * 2, predicted * 2, 9) == macro_accuracy_interval(labels, predicted, 4)


def coverage(classes, photos, lowest, highest, trials):
    """Share of trials in which the interval holds the true macro accuracy; recalls lie between the two given."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(trials):
        recall = random.uniform(lowest, highest, classes)
        counts = [(photos, correct) for correct in random.binomial(photos, recall)]
        labels, predicted = classified(*counts) if classes > 1 else alone(*counts[0])
        low, high = macro_accuracy_interval(labels, predicted, classes + 1, 400)
        covered += low <= recall.mean() <= high
    return covered / trials


@pytest.mark.parametrize("setting", [(1, 20, 0.9, 0.9), (5, 30, 0.9, 0.99), (30, 10, 0.95, 0.95)])
def test_the_interval_covers_about_95_percent_or_more(setting):
    assert coverage(*setting, trials=300) > 0.91  # 0.95 less three standard errors of 300 trials


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 2, 10, 100])
@pytest.mark.parametrize("photos", [3, 36, 200])
@pytest.mark.parametrize("recalls", [(0.5, 0.9), (0.8, 0.99), (0.97, 0.97)])
def test_the_interval_keeps_its_promise_whatever_the_classes(classes, photos, recalls):
    assert coverage(classes, photos, *recalls, trials=400) > 0.91


def alone(images, correct):
    return np.zeros(images, dtype=np.int64), (np.arange(images) >= correct).astype(np.int64)


def test_nothing_to_judge_is_refused():
    with pytest.raises(ValueError, match="labels"):
        macro_accuracy_interval(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 3)
