"""Likely label errors against a slow loop, and on labels that were swapped on purpose."""

import numpy as np
import pytest

from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.predictions import Predictions

CLASSES = ("ash", "beech", "cedar", "elm")


def with_swapped_labels(photos=400, swapped=20, noise=0.7):
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, photos)  # no elm
    logits = 4 * np.eye(4)[truth] + random.normal(size=(photos, 4)) * noise
    labels = truth.copy()
    labels[:swapped] = (truth[:swapped] + 1) % 3
    return Predictions(tuple(f"{i}.jpg" for i in range(photos)), labels, logits, CLASSES), truth


def slow_suspects(predictions, temperature):
    probabilities, labels = predictions.probabilities(temperature), predictions.labels
    thresholds = [probabilities[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(4)]
    found = []
    for row, label in enumerate(labels):
        likely = [j for j in range(4) if probabilities[row, j] >= thresholds[j]]
        best = max(likely, key=lambda j: probabilities[row, j], default=label)
        if best != label and probabilities[row, best] > probabilities[row, label]:
            found.append((probabilities[row, label] - probabilities[row, best], predictions.files[row], CLASSES[best]))
    return [(file, suggested) for _, file, suggested in sorted(found)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_suspects_are_those_of_a_slow_loop_in_its_order(temperature):
    predictions, _ = with_swapped_labels(noise=2.5)
    rows = suspects(predictions, temperature)
    assert len(rows) > 20
    assert [(row["file"], row["suggested"]) for row in rows] == slow_suspects(predictions, temperature)


def test_swapped_labels_are_found_with_the_class_they_came_from():
    predictions, truth = with_swapped_labels()
    rows = suspects(predictions)
    swapped = {f"{i}.jpg": CLASSES[truth[i]] for i in range(20)}
    assert all(swapped.get(row["file"]) == row["suggested"] for row in rows)
    assert len(rows) > 10  # the rest of the 20 lie below the threshold, which is a mean


def test_a_row_holds_the_figures_that_the_suspicion_rests_on():
    predictions, _ = with_swapped_labels()
    row = suspects(predictions)[0]
    index = predictions.files.index(row["file"])
    probabilities = predictions.probabilities()[index]
    assert row["confidence"] == probabilities[CLASSES.index(row["suggested"])] >= row["threshold"]
    assert row["given_confidence"] == probabilities[CLASSES.index(row["given"])]
    assert row["given"] == CLASSES[predictions.labels[index]]


def test_a_class_without_photos_is_never_suggested():
    files, labels = ("a", "b", "c"), np.array([0, 0, 1])
    logits = np.array([[0.0, 0.0, 0.0, 9.0], [3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]])
    assert suspects(Predictions(files, labels, logits, CLASSES)) == []


def test_only_as_many_rows_as_asked_for_come_back():
    predictions, _ = with_swapped_labels()
    assert suspects(predictions, most=3) == suspects(predictions)[:3]


def test_no_photos_are_no_suspects():
    nothing = Predictions((), np.zeros(0, dtype=np.int64), np.zeros((0, 4)), CLASSES)
    assert suspects(nothing) == []
