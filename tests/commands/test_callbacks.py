"""Callbacks of the caller: told all that happens, and when one fails, everything is saved."""

import pytest
import torch

from fieldguide import Callback, TrainingError, UsageError, resume
from fieldguide.run_folder import RunFolder
from tests.commands.by_the_report import train
from tests.torture.runner import differences


class Tracker(Callback):
    """Keeps what it is told, and raises where it is asked to."""

    def __init__(self, fails_in=""):
        self.fails_in, self.told, self.beginning, self.result, self.error = fails_in, [], None, None, None

    def _note(self, event):
        self.told.append(event)
        if event == self.fails_in:
            raise ConnectionError("no answer")

    def run_begins(self, beginning):
        self.beginning = beginning
        self._note("begins")

    def stage_begins(self, stage, state):
        self._note(stage.label)

    def losses_known(self, steps):
        assert all(0 < step.loss < 10 and step.learning_rate > 0 for step in steps)
        self.told += ["step"] * len(steps)

    def epoch_done(self, epoch, state):
        self._note(f"epoch {epoch.epoch}")

    def run_done(self, result):
        self.result = result
        self._note("done")

    def run_failed(self, error):
        self.error = error
        self._note("failed")


def test_a_callback_is_told_of_a_run_from_its_recipe_to_its_result_and_changes_nothing(trained, tmp_path, small):
    tracker = Tracker()
    run = train(trained[0], output=tmp_path / "run", overrides=small, quiet=True, callbacks=[tracker])
    assert differences(trained[1].path, run.path) == []
    epochs = run.result["epochs"]
    assert tracker.told[:7] == ["begins", "phase standard", *["step"] * 5] and tracker.told[7] == "epoch 1"
    assert tracker.told.count("step") == 5 * epochs and tracker.told[-1] == "done" and tracker.error is None
    assert tracker.result == run.result == RunFolder(run.path).read_result()
    beginning = tracker.beginning
    assert beginning.folder == run.path and beginning.recipe["training"]["seed"] == 0 and beginning.epochs_done == 0
    assert list(beginning.classes) == ["10", "2", "cat"] and beginning.photos["train"] == 37


@pytest.mark.slow
@pytest.mark.parametrize("event", ["begins", "phase standard", "epoch 2"])
def test_a_callback_that_fails_ends_the_run_with_an_error_and_the_rest_is_the_same(trained, tmp_path, small, event):
    tracker = Tracker(event)
    words = r"callback Tracker failed \(ConnectionError: no answer\); .*resume with fieldguide train --resume"
    with pytest.raises(TrainingError, match=words) as error:
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True, callbacks=[tracker])
    assert isinstance(error.value.__cause__, ConnectionError) and tracker.error is error.value
    assert not (tmp_path / "run/result.json").exists()
    again = Tracker()
    assert resume(tmp_path / "run", quiet=True, callbacks=[again]).exit_code == 0
    assert differences(trained[1].path, tmp_path / "run") == []
    assert again.beginning.epochs_done == (2 if event == "epoch 2" else 0)


@pytest.mark.parametrize("callbacks", [Tracker(), [Tracker], ["Tracker"]])
def test_callbacks_that_are_no_list_of_callback_objects_are_refused_before_anything_is_written(
    trained, tmp_path, callbacks
):
    with pytest.raises(UsageError, match=r"callbacks.* fieldguide\.Callback|callbacks must be a list"):
        train(trained[0], output=tmp_path / "run", quiet=True, callbacks=callbacks)
    with pytest.raises(UsageError, match="callbacks"):
        resume(trained[1].path, quiet=True, callbacks=callbacks)
    assert not (tmp_path / "run").exists()


def test_a_callback_that_fails_at_the_end_leaves_a_complete_run(trained, tmp_path, small):
    with pytest.raises(TrainingError, match=r"no answer.*; the run is complete"):
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True, callbacks=[Tracker("done")])
    assert RunFolder(tmp_path / "run").is_finished and differences(trained[1].path, tmp_path / "run") == []


@pytest.mark.slow
def test_a_training_on_a_cpu_reads_no_loss_more_often_for_a_callback(trained, tmp_path, small, monkeypatch):
    real, stacked = torch.stack, []
    monkeypatch.setattr(torch, "stack", lambda *all, **named: stacked.append(1) or real(*all, **named))
    counts = []
    for name, callbacks in (("none", []), ("one", [Tracker()])):
        stacked.clear()
        train(trained[0], output=tmp_path / name, overrides=small, quiet=True, callbacks=callbacks)
        counts.append(len(stacked))
    assert counts[0] == counts[1] > 0
