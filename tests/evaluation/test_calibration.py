"""The temperature against SciPy's optimum, and judging that never sees what was fitted on."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss as sklearn_log_loss

from fieldguide.evaluation.calibration import (
    calibration_summary,
    fit_temperature,
    log_loss,
    temperature_summary,
    temperatures_without_each,
)
from fieldguide.evaluation.reliability import expected_calibration_error, reliability_table


def problem(seed, photos=200, classes=5, scale=1.0, dtype=np.float64):
    """Logits that would be calibrated at the temperature `scale`."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(photos, classes)) * 2
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    labels = (random.random((photos, 1)) > cumulated[:, :-1]).sum(axis=1)
    return (logits * scale).astype(dtype), labels


def scipys_optimum(logits, labels):
    def loss(log_temperature):
        return log_loss(logits / np.exp(log_temperature), labels)

    return minimize_scalar(loss, bounds=(np.log(1e-4), np.log(1e4)), method="bounded", options={"xatol": 1e-10}).fun


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 4.0, 100.0])
@pytest.mark.parametrize(("photos", "classes"), [(12, 3), (200, 2), (300, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_temperatures_log_loss_is_scipys_optimum(scale, photos, classes, dtype):
    for seed in range(3):
        logits, labels = problem(seed, photos, classes, scale, dtype)
        fitted = fit_temperature(logits, labels)
        assert fitted.note is None
        assert fitted.fitted_on_n == photos
        found = log_loss(logits.astype(np.float64) / fitted.value, labels)
        # SciPy stops within its own tolerance; ours may be better but not worse
        assert found == pytest.approx(scipys_optimum(logits.astype(np.float64), labels), rel=0, abs=1e-8)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_the_temperature_is_found_that_the_logits_were_made_with(scale):
    logits, labels = problem(0, 20_000, 5, scale)
    assert fit_temperature(logits, labels).value == pytest.approx(scale, rel=0.05)


def test_the_temperature_does_not_change_with_what_softmax_does_not_see():
    logits, labels = problem(3)
    shifted = logits + np.arange(len(logits))[:, None] * 50
    assert fit_temperature(shifted, labels).value == pytest.approx(fit_temperature(logits, labels).value, rel=1e-9)


@pytest.mark.parametrize("photos", [1, 10, 400])
def test_a_perfect_classifier_that_is_too_unsure_gets_the_certainty_that_its_photos_can_carry(photos):
    logits = np.random.default_rng(0).normal(size=(photos, 4)) * 0.01
    fitted = fit_temperature(logits, logits.argmax(axis=1))
    confidence = softmax(logits / fitted.value, axis=1).max(axis=1)
    assert confidence.mean() == pytest.approx((photos + 1) / (photos + 2), abs=1e-9)
    assert f"all {photos} photos are right, so no temperature is best" in fitted.note


@pytest.mark.parametrize("photos", [1, 10, 400])
def test_a_perfect_classifier_that_is_sure_stays_as_it_is(photos):
    labels = np.arange(photos) % 4
    fitted = fit_temperature(np.eye(4)[labels] * 20, labels)
    assert fitted.value == 1
    assert "no temperature is best" in fitted.note


def test_a_perfect_classifier_with_a_tie_keeps_a_temperature_that_says_something():
    logits = np.array([[2.0, 2.0, 0.0], [3.0, 0.0, 1.0], [0.0, 1.0, 4.0]])
    fitted = fit_temperature(logits, np.array([0, 0, 2]))
    assert 0.1 < fitted.value <= 1


@pytest.mark.parametrize("logits", [np.zeros((0, 3)), np.ones((4, 3)), np.ones((2, 1))])
def test_where_nothing_can_be_told_the_temperature_stays_1(logits):
    fitted = fit_temperature(logits, np.zeros(len(logits), dtype=np.int64))
    assert fitted.value == 1
    assert "not fitted" in fitted.note


def test_logits_that_are_worse_than_chance_get_the_highest_temperature_and_that_is_said():
    logits = np.eye(3)[[0, 1, 2, 0]] * 5
    fitted = fit_temperature(logits, np.array([1, 2, 0, 2]))
    assert fitted.value == 1e6
    assert "at its limit" in fitted.note


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_agrees_with_scikit_learn(dtype):
    logits, labels = problem(0, dtype=dtype)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    assert log_loss(logits, labels) == pytest.approx(
        sklearn_log_loss(labels, probabilities, labels=range(5)), rel=0, abs=1e-9
    )


def test_log_loss_stays_finite_where_a_probability_would_be_0():
    assert log_loss(np.array([[2000.0, 0.0]]), np.array([1])) == 2000


def test_no_photo_has_a_part_in_its_own_temperature():
    logits, labels = problem(1, photos=60, classes=3, scale=3.0)
    temperatures = temperatures_without_each(logits, labels)
    assert len(set(temperatures)) == 5
    for value in set(temperatures):
        inside = temperatures == value
        assert fit_temperature(logits[~inside], labels[~inside]).value == value
        # each class is spread over the folds as evenly as it goes
        for name in range(3):
            assert abs((labels[inside] == name).sum() - (labels == name).sum() / 5) < 1


def test_no_photo_of_a_group_has_a_part_in_the_temperature_of_another():
    logits, labels = problem(1, photos=60, classes=3, scale=3.0)
    groups = np.arange(60) // 4
    temperatures = temperatures_without_each(logits, labels, groups=groups)
    assert len(set(temperatures)) == 5
    for value in set(temperatures):
        inside = temperatures == value
        assert not set(groups[inside]) & set(groups[~inside])
        assert fit_temperature(logits[~inside], labels[~inside]).value == value
    alone = temperatures_without_each(logits, labels, groups=np.arange(60))
    np.testing.assert_array_equal(alone, temperatures_without_each(logits, labels))


@pytest.mark.parametrize("groups", [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 1], [5, 5, 5, 5, 5, 5]])
def test_few_groups_are_cross_fitted_too(groups):
    logits, labels = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 0, 0, 1])
    summary = calibration_summary(logits, labels, groups=np.array(groups))
    json.dumps(summary, allow_nan=False)
    folds = len(set(groups))
    if folds == 1:
        assert summary["judged"] == "not cross-fitted: there is only one group"
        assert summary["log_loss_after"] == summary["log_loss_before"]
    else:
        assert summary["judged"] == f"{folds}-fold cross-fitted, groups kept together"


def cross_fitted(logits, labels):
    """(photos, classes) probabilities of each photo, by a temperature that was fitted without it."""
    return softmax(logits / temperatures_without_each(logits, labels)[:, None], axis=1)


@pytest.mark.parametrize(
    "labels",
    [
        [0],
        [0, 1],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
        [0] * 6 + [1],
        [0] * 6 + [1] * 2 + [2] * 2,
        [0] * 6 + [1, 2, 3, 4, 5],
        [2] * 9,
    ],
)
def test_few_photos_and_classes_of_one_photo_are_cross_fitted_too(labels):
    labels = np.array(labels)
    logits = np.random.default_rng(0).normal(size=(len(labels), 6))
    probabilities = cross_fitted(logits, labels)
    assert probabilities.shape == logits.shape
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    summary = calibration_summary(logits, labels)
    assert summary["judged_on_n"] == len(labels)
    json.dumps(summary, allow_nan=False)


def test_the_summary_is_judged_cross_fitted_on_validation():
    logits, labels = problem(2, scale=3.0)
    summary = calibration_summary(logits, labels)
    after = cross_fitted(logits, labels)
    of_truth = after[np.arange(len(labels)), labels]
    assert summary["temperature"] == fit_temperature(logits, labels).value
    assert summary["fitted_on_n"] == summary["judged_on_n"] == 200
    assert summary["judged"] == "5-fold cross-fitted"
    assert summary["log_loss_before"] == log_loss(logits, labels)
    assert summary["log_loss_after"] == pytest.approx(-np.log(of_truth).mean(), abs=1e-12)
    assert summary["log_loss_after"] < summary["log_loss_before"]
    expected = expected_calibration_error(after.max(axis=1), after.argmax(axis=1) == labels)
    assert summary["ece_after"] == pytest.approx(expected, abs=1e-12)
    assert summary["ece_after"] < summary["ece_before"]
    assert len(summary["reliability_before"]) == len(summary["reliability_after"]) == summary["bins"] == 15
    assert summary["coverage_curve"]["coverage"][-1] == 1


def test_the_summary_hands_groups_to_the_intervals_of_its_bins():
    logits, labels = problem(6, photos=120, classes=3)
    groups = np.repeat(np.arange(30), 4)
    logits, labels = logits[groups], labels[groups]  # the photos of a group are the same
    grouped, plain = calibration_summary(logits, labels, groups=groups), calibration_summary(logits, labels)
    for row, one in zip(grouped["reliability_before"], plain["reliability_before"], strict=True):
        assert row["images"] == one["images"] and row["accuracy"] == one["accuracy"]
        if row["images"]:
            assert row["accuracy_high"] - row["accuracy_low"] > one["accuracy_high"] - one["accuracy_low"]


def test_a_temperature_fitted_elsewhere_is_judged_as_it_is():
    logits, labels = problem(5, photos=90, scale=3.0)
    summary = temperature_summary(2.5, logits, labels, "on the test photos")
    assert (summary["temperature"], summary["judged"], summary["judged_on_n"]) == (2.5, "on the test photos", 90)
    assert summary["log_loss_before"] == log_loss(logits, labels)
    assert summary["log_loss_after"] == pytest.approx(log_loss(logits / 2.5, labels), abs=1e-12)
    groups = np.arange(90) // 9
    grouped = temperature_summary(2.5, logits, labels, "", groups)["reliability_after"]
    confidence = softmax(logits / 2.5, axis=1).max(axis=1)
    assert grouped == reliability_table(confidence, logits.argmax(axis=1) == labels, groups=groups)
    assert grouped != summary["reliability_after"]


def test_a_single_photo_is_not_said_to_be_judged():
    summary = calibration_summary(np.array([[1.0, 0.0]]), np.array([0]))
    assert summary["judged"] == "not cross-fitted: there is only one photo"
    assert summary["log_loss_after"] == summary["log_loss_before"]


def test_arrays_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="do not go together"):
        fit_temperature(np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="no photos"):
        log_loss(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="at least 2"):
        temperatures_without_each(np.zeros((3, 2)), np.zeros(3, dtype=np.int64), folds=1)
