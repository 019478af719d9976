import numpy as np
import pytest

from fieldguide.evaluation.comparison import compare_predictions
from fieldguide.evaluation.predictions import Predictions, write_predictions
from fieldguide.report.pairs import pair_runs
from fieldguide.run_folder import RunFolder

CLASSES = ("ash", "beech")


@pytest.fixture
def make_run(tmp_path):
    """make_run(name, right): a run that has so many of 100 validation photos right, from the first on."""

    def make(name, right, kept=True, first=0, rounds=False):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        labels = np.arange(100) % 2
        said = np.where(np.arange(100) < right, labels, 1 - labels)
        if kept:
            files = tuple(f"{first + number}.jpg" for number in range(100))
            logits = np.eye(2, dtype=np.float32)[said]
            write_predictions(folder.predictions, Predictions(files, labels.astype(np.int64), logits, CLASSES))
        stages = [{"kind": "phase"}] + [{"kind": "round"}] * rounds
        return name, folder, {"validation": {"accuracy": right / 100}, "stages": stages}

    return make


def test_each_pair_of_few_runs_has_its_sentence(make_run):
    runs = [make_run("a", 60), make_run("b", 90), make_run("c", 91)]
    found = pair_runs(runs)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.pairs[0].sentence.startswith("b beats a by 30.0 points (")
    assert found.pairs[2].sentence.startswith("c against b: not significant at n = 100")
    assert all(
        "these photos also chose the epoch, so the figure is optimistic" in pair.sentence for pair in found.pairs
    )
    assert found.remarks == ("3 tests, each wrong 1 time in 20 by chance; not corrected for their number",)
    entry = found.pairs[0].as_dict()
    assert entry["shown"] and entry["only_b"] == 30 and entry["difference"] == pytest.approx(-0.3)


def test_the_figures_are_those_of_the_comparison(make_run):
    from fieldguide.evaluation.predictions import read_predictions

    runs = [make_run("a", 60), make_run("b", 90, rounds=True)]
    expected = compare_predictions(*(read_predictions(folder.predictions) for _, folder, _ in runs))
    (pair,) = pair_runs(runs).pairs
    assert pair.comparison == expected and "chose the epoch and the round" in pair.sentence


def test_of_many_runs_the_best_is_compared_with_each_other_and_said_to_be_chosen(make_run):
    runs = [make_run(f"r{number:02d}", 50 + number) for number in range(13)]
    found = pair_runs(runs)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("r12", f"r{n:02d}") for n in range(11, 1, -1)]
    assert all("the epoch and the run" in pair.sentence for pair in found.pairs)
    assert "2 runs with lower accuracy not compared with r12" in found.remarks


def test_runs_without_predictions_are_said_in_one_sentence(make_run):
    runs = [make_run("a", 60), make_run("old", 90, kept=False), make_run("older", 90, kept=False)]
    found = pair_runs(runs)
    assert not found.pairs and len(found.sentences) == 1
    assert found.remarks[0].startswith("old, older are not compared: no predictions.npz")


def test_a_damaged_file_or_other_photos_leave_the_others_compared(make_run):
    runs = [make_run("a", 60), make_run("b", 90), make_run("torn", 70), make_run("other", 70, first=1000)]
    (runs[2][1].predictions).write_bytes(b"no archive")
    found = pair_runs(runs)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b")]
    assert any(remark.startswith("torn is not compared") for remark in found.remarks)
    assert sum("not evaluated on the same photos" in remark for remark in found.remarks) == 2


def test_one_run_has_no_pair_and_nothing_to_say(make_run):
    assert pair_runs([make_run("a", 60, kept=False)]).sentences == []


def test_cross_validations_are_paired_by_what_they_said_out_of_fold(make_run):
    runs = [make_run("a", 60), make_run("b", 90)]
    for _, folder, _ in runs:
        folder.predictions.rename(folder.out_of_fold_logits)
    found = pair_runs(runs)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b")] and found.pairs[0].comparison.only_b == 30
    assert found.remarks == ()
