"""Nothing is decided by reading a sentence back: all of them say something else here, and nothing else changes."""

import json
import signal

import pytest

from fieldguide import UsageError, resume
from fieldguide.commands.trial import carry_out as trial
from fieldguide.commands.trial.carry_out import Run
from fieldguide.run_folder import RunFolder
from fieldguide.training.ends import Cause, Stopped
from fieldguide.training.plan import Ended
from tests.commands.by_the_report import train
from tests.torture.runner import EVERY_STEP, differences

TIMES = ("seconds", "images_per_second", "waited_for_data", "checkpoints")
OTHER_WORDS = "interrupted by SIGHUP: converged, the time was up, its most epochs"  # what a reader could fall for


@pytest.fixture
def reworded(monkeypatch):
    """Each sentence of why a stage or a training ended."""
    monkeypatch.setattr(Stopped, "sentence", lambda self: OTHER_WORDS)
    monkeypatch.setattr(Ended, "sentence", lambda self: OTHER_WORDS)


def figures(run):
    """`result.json` without times, the texts of ends taken out of it."""
    result = json.loads((run / "result.json").read_text())
    texts = [stage["reason"].pop("text") for stage in result["stages"]]
    return {name: value for name, value in result.items() if name not in TIMES}, texts


@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGINT", 130), ("SIGTERM", 143), ("", 1)])
def test_the_exit_code_is_that_of_the_signal(reworded, tmp_path, name, code):
    stopped = Stopped(Cause.SIGNAL, signal=name) if name else Stopped(Cause.PHOTOS, message="a.jpg is gone")
    assert Run(tmp_path, {"stopped": stopped.to_dict()}).exit_code == code


@pytest.mark.slow
def test_a_run_that_a_signal_ended_resumes_to_the_same_figures(reworded, trained, tmp_path, small, at_step):
    at_step(7, lambda: signal.raise_signal(signal.SIGTERM))
    run = train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert run.exit_code == 143 and not RunFolder(run.path).is_finished
    assert run.result["stopped"] == {"kind": "signal", "signal": "SIGTERM", "text": OTHER_WORDS}
    assert resume(run.path, quiet=True).exit_code == 0
    assert differences(trained[1].path, run.path) == ["result.json"]  # in its texts alone:
    (mine, words), (theirs, usual) = figures(run.path), figures(trained[1].path)
    assert mine == theirs and set(words) == {OTHER_WORDS} and OTHER_WORDS not in usual


def test_a_loss_that_is_not_finite_is_known_by_its_kind(reworded, trained, tmp_path, small, monkeypatch):
    real, calls = trial.train_loop, []

    def poisoning(model, *arguments):
        def poison(module, inputs):
            calls.append(1)
            return (inputs[0] * float("nan"),) if module.training and len(calls) > 9 else None

        model.register_forward_pre_hook(poison)
        return real(model, *arguments)

    monkeypatch.setattr(trial, "train_loop", poisoning)
    run = train(trained[0], output=tmp_path / "run", overrides=(*small, EVERY_STEP), quiet=True)
    assert run.exit_code == 1 and run.result["stopped"]["kind"] == "not_finite"
    with pytest.raises(UsageError, match=r"resuming would fail again"):
        RunFolder(run.path).read_finished_result()
