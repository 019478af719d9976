"""Bins, expected calibration error and coverage against slow loops."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from fieldguide.evaluation.clusters import worth_each
from fieldguide.evaluation.intervals import wilson, wilson_each
from fieldguide.evaluation.reliability import coverage_curve, expected_calibration_error, reliability_table

ROUND = np.linspace(0, 1, 16)  # confidences that lie on the edges


def judged(seed, photos=300):
    random = np.random.default_rng(seed)
    confidence = np.concatenate([random.uniform(0.2, 1, photos), ROUND])
    return confidence, random.random(len(confidence)) < confidence


def slow_ece(confidence, correct, bins):
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for m in range(bins):
        inside = [i for i, c in enumerate(confidence) if edges[m] < c <= edges[m + 1] or (m == 0 and c == 0)]
        if inside:
            sure = sum(confidence[i] for i in inside) / len(inside)
            right = sum(bool(correct[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(right - sure)
    return total


@pytest.mark.parametrize("bins", [1, 2, 15, 40])
@pytest.mark.parametrize("seed", range(5))
def test_expected_calibration_error_is_that_of_a_slow_loop(seed, bins):
    confidence, correct = judged(seed)
    assert expected_calibration_error(confidence, correct, bins) == pytest.approx(
        slow_ece(confidence, correct, bins), rel=0, abs=1e-12
    )


def test_the_table_agrees_with_scikit_learns_curve_and_wilsons_intervals():
    confidence, correct = judged(0)
    confidence, correct = confidence[:300], correct[:300]  # scikit-learn closes bins on the other side
    rows = reliability_table(confidence, correct, 10)
    full = [row for row in rows if row["images"]]
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="uniform")
    np.testing.assert_allclose([row["accuracy"] for row in full], accuracy, rtol=0, atol=1e-9)
    np.testing.assert_allclose([row["confidence"] for row in full], mean, rtol=0, atol=1e-9)
    assert sum(row["images"] for row in rows) == 300
    for row in full:
        right = round(row["accuracy"] * row["images"])
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(wilson(right, row["images"]), abs=1e-12)


def test_the_intervals_of_the_bins_count_for_groups():
    draw, groups = np.random.default_rng(4), np.repeat(np.arange(30), 10)
    confidence, correct = draw.uniform(0.5, 1, 300), np.repeat(draw.random(30) < 0.7, 10)
    plain, alone, grouped = (reliability_table(confidence, correct, 4, of) for of in (None, np.arange(300), groups))
    assert plain == alone
    where = np.ceil(confidence * 4).astype(np.int64) - 1
    worths = worth_each(correct, where, 4, groups)
    for m in (2, 3):
        one, other = plain[m], grouped[m]
        assert other["accuracy_low"] < one["accuracy_low"] and other["accuracy_high"] > one["accuracy_high"]
        assert [other[key] for key in ("images", "accuracy")] == [one[key] for key in ("images", "accuracy")]
        bounds = wilson_each(np.array([other["accuracy"] * worths[m]]), np.array([worths[m]]))
        assert (other["accuracy_low"], other["accuracy_high"]) == pytest.approx([float(bound[0]) for bound in bounds])
    assert grouped[0] == plain[0] and grouped[0]["accuracy_low"] is None


def test_an_empty_bin_has_no_figures_and_no_weight():
    rows = reliability_table(np.array([0.9, 0.95]), np.array([True, False]), 2)
    assert rows[0] == {
        "above": 0.0,
        "up_to": 0.5,
        "images": 0,
        "confidence": None,
        "accuracy": None,
        "accuracy_low": None,
        "accuracy_high": None,
    }
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


def test_the_coverage_curve_is_that_of_a_slow_loop_and_keeps_ties_together():
    random = np.random.default_rng(0)
    confidence = random.integers(1, 20, 150) / 20
    correct = random.random(150) < confidence
    curve = coverage_curve(confidence, correct)
    thresholds = sorted(set(confidence), reverse=True)
    assert curve.confidence.tolist() == thresholds
    for coverage, accuracy, threshold in zip(curve.coverage, curve.accuracy, thresholds, strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean(), abs=1e-12)
        assert accuracy == pytest.approx(correct[answered].mean(), abs=1e-12)


def test_a_long_coverage_curve_is_thinned_and_keeps_its_ends():
    confidence, correct = judged(1, photos=5000)
    whole, thin = coverage_curve(confidence, correct, 10_000), coverage_curve(confidence, correct)
    assert len(thin.coverage) == 200 < len(whole.coverage)
    assert (thin.coverage[0], thin.coverage[-1]) == (whole.coverage[0], 1.0)
    assert thin.accuracy[-1] == correct.mean()
    assert (np.diff(thin.coverage) > 0).all()
    assert set(thin.as_dict()) == {"coverage", "accuracy", "confidence"}


@pytest.mark.parametrize("function", [expected_calibration_error, reliability_table, coverage_curve])
def test_nothing_to_judge_is_refused(function):
    with pytest.raises(ValueError, match="confidences"):
        function(np.array([]), np.array([], dtype=bool))
    with pytest.raises(ValueError, match="confidences"):
        function(np.array([0.5]), np.array([True, False]))
