"""The figures against scikit-learn."""

import json
import tracemalloc

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from fieldguide.evaluation.bootstrap import macro_accuracy_interval
from fieldguide.evaluation.metrics import judge, top_k

CLASSES = tuple("abcdefgh")


def judged(seed=0, photos=400, absent=()):
    random = np.random.default_rng(seed)
    labels = random.choice([c for c in range(8) if c not in absent], size=photos)
    logits = random.normal(size=(photos, 8)) + 2 * np.eye(8)[labels]
    return softmax(logits, axis=1), labels


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_agrees_with_scikit_learn(seed):
    probabilities, labels = judged(seed)
    predicted, found = probabilities.argmax(axis=1), judge(probabilities, labels, CLASSES)
    every = range(8)
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "macro_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "loss": reference.log_loss(labels, probabilities, labels=every),
        "top5_accuracy": reference.top_k_accuracy_score(labels, probabilities, k=5, labels=every),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)
    for name, score in (("recall", reference.recall_score), ("precision", reference.precision_score)):
        per_class = [row[name] for row in found["per_class"]]
        np.testing.assert_allclose(per_class, score(labels, predicted, labels=every, average=None), rtol=0, atol=1e-9)


def test_every_share_has_its_interval_and_its_n():
    probabilities, labels = judged()
    predicted, found = probabilities.argmax(axis=1), judge(probabilities, labels, CLASSES)
    for name in ("accuracy", "top5_accuracy"):
        right = round(found[name] * found["images"])
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx(
            proportion_confint(right, 400, method="wilson"), rel=0, abs=1e-9
        )
    macro = found["macro_accuracy_low"], found["macro_accuracy_high"]
    assert macro == macro_accuracy_interval(labels, predicted, 8)
    for row in found["per_class"]:
        for name, n in (("recall", "images"), ("precision", "predicted")):
            expected = proportion_confint(row["correct"], row[n], method="wilson")
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(expected, rel=0, abs=1e-9)


def test_a_class_without_photos_has_no_recall_and_no_part_in_macro_accuracy():
    probabilities, labels = judged(absent=(3,))
    found = judge(probabilities, labels, CLASSES)
    row = found["per_class"][3]
    assert (row["images"], row["recall"], row["recall_low"], row["recall_high"]) == (0, None, None, None)
    assert row["precision"] == 0.0
    recalls = [row["recall"] for row in found["per_class"] if row["images"]]
    assert found["macro_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-12)
    json.dumps(found, allow_nan=False)


def test_below_six_classes_there_is_no_top_5():
    found = judge(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]), ("x", "y"))
    assert [found[f"top5_accuracy{end}"] for end in ("", "_low", "_high")] == [None, None, None]


@pytest.mark.parametrize(("photos", "classes", "k"), [(0, 8, 5), (1, 6, 5), (2500, 9, 5), (300, 4, 1), (40, 3, 7)])
def test_the_first_k_are_those_of_a_stable_sort_and_of_equal_ones_the_first(photos, classes, k):
    draw = np.random.default_rng(photos)
    probabilities = draw.integers(0, 4, (photos, classes)) / 4  # most of them equal
    labels = draw.integers(0, classes, photos)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    found = top_k(probabilities, labels, k)
    assert found.dtype == np.bool_ and found.tolist() == (order == labels[:, None]).any(axis=1).tolist()


def test_the_first_5_of_many_classes_take_a_part_of_the_memory_that_their_probabilities_take():
    labels = np.arange(20_000) % 50
    probabilities = np.random.default_rng(0).random((20_000, 50))
    tracemalloc.start()
    try:
        top_k(probabilities, labels, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < probabilities.nbytes / 4


def test_the_confused_pairs_are_those_of_scikit_learns_matrix_most_frequent_first():
    probabilities, labels = judged()
    matrix = reference.confusion_matrix(labels, probabilities.argmax(axis=1))
    pairs = judge(probabilities, labels, CLASSES)["confused_pairs"]
    counts = [pair["count"] for pair in pairs]
    assert counts == sorted(matrix[~np.eye(8, dtype=bool)], reverse=True)[: len(counts)]
    assert pairs[0]["count"] == matrix[CLASSES.index(pairs[0]["actual"]), CLASSES.index(pairs[0]["predicted"])]


@pytest.mark.parametrize(("rows", "labels"), [(0, 0), (2, 3)])
def test_arrays_that_do_not_go_together_are_refused(rows, labels):
    with pytest.raises(ValueError, match="labels"):
        judge(np.full((rows, 2), 0.5), np.zeros(labels, dtype=np.int64), ("x", "y"))


def test_the_confusion_matrix_and_f1_are_scikit_learns():
    from sklearn.metrics import confusion_matrix, f1_score

    from fieldguide.evaluation.metrics import confusion

    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(0, 4, 200), draw.integers(0, 5, 200)
    found = confusion(labels, predicted, list("abcdef"))
    expected = f1_score(labels, predicted, labels=range(6), average=None, zero_division=0)
    assert found["confusion_matrix"] == {
        "classes": list("abcdef"), "rows": confusion_matrix(labels, predicted, labels=range(6)).tolist()
    }  # fmt: skip
    assert found["f1"]["f"] is None and found["f1"]["e"] == 0
    assert np.allclose([found["f1"][name] for name in "abcd"], expected[:4])
    assert np.isclose(found["macro_f1"], expected[:4].mean())
