"""A trial is plain data: it runs in any process, and leaves none of its settings behind."""

import json
import os
import pickle
import random
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
import torch

from fieldguide import assemble
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.begin import run_trial, seconds_for
from fieldguide.commands.trial.prepare import prepare
from fieldguide.errors import Interrupted, TrainingError, UsageError
from fieldguide.recipe.load import read_recipe
from fieldguide.training.ends import NotFinite
from fieldguide.training.observers import Callback
from tests.torture.runner import differences


class Watching(Callback):
    """Notes how cuDNN chooses while a training runs."""

    def epoch_done(self, epoch, state):
        self.cudnn = {name: getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic")}


class Failing(Callback):
    """Of this module, so that it pickles."""

    def epoch_done(self, epoch, state):
        raise KeyError(epoch.epoch)


@pytest.fixture
def asked(trained, small):
    """Arguments of `run_trial` as `trained` had them."""
    recipe = assemble.resolved(read_recipe("resnet34-adam", small))
    return "resnet34-adam", recipe, prepare(trained[0], recipe, Screen(quiet=True))


def elsewhere(*arguments, **named):
    """`run_trial` in a process that is started anew and knows nothing but its arguments."""
    threads = (torch.get_num_threads(),)  # sums depend on them
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, threads) as pool:
        return pool.submit(run_trial, *arguments, **named).result()


@pytest.mark.slow
def test_a_trial_in_a_spawned_process_is_the_same_run_to_the_bit(asked, trained, tmp_path):
    run = elsewhere(*asked, tmp_path / "run", "cpu", "quiet")
    assert differences(trained[1].path, run.path) == [] and run.exit_code == 0
    for one in (run, trained[1]):
        assert (one.path / "bundle/model.safetensors").stat().st_size > 0
    read = [(one.path / "bundle/model.safetensors").read_bytes() for one in (run, trained[1])]
    assert read[0] == read[1]


@pytest.mark.slow
def test_what_ends_a_trial_in_another_process_arrives_as_it_was_raised(asked, tmp_path):
    with pytest.raises(TrainingError, match=r"callback Failing failed \(KeyError: 1\)"):
        elsewhere(*asked, tmp_path / "run", "cpu", "quiet", callbacks=[Failing()])


@pytest.mark.parametrize(
    "error", [UsageError("one", "two"), Interrupted("SIGTERM", "why"), NotFinite("loss", 2, 3, ["a.jpg"])]
)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


def settings():
    """What a training could change for everyone in its process."""
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads()),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "random": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "process": (os.getcwd(), dict(os.environ), list(warnings.filters)),
    }


@pytest.mark.parametrize("execution", ["exact", "fast"])
def test_a_trial_leaves_no_setting_of_its_process_changed(asked, trained, small, tmp_path, execution):
    recipe = assemble.resolved(
        read_recipe("resnet34-adam", (*small, f"execution={execution}", "training.max_epochs=1"))
    )
    before, watching = settings(), Watching()
    run_trial("x", recipe, asked[2], tmp_path / "run", "cpu", "quiet", callbacks=[watching])
    after = settings()
    assert {name: value for name, value in after.items() if value != before[name]} == {}
    assert watching.cudnn == {"benchmark": execution == "fast", "deterministic": execution == "exact"}
    assert json.loads((tmp_path / "run/environment.json").read_text())["cudnn"] == watching.cudnn


def test_trainings_share_what_is_left_of_the_minutes(monkeypatch):
    monkeypatch.setattr("fieldguide.commands.trial.begin.time.monotonic", lambda: 1_000.0)
    assert seconds_for(None) is None and seconds_for(2) == 120
    assert seconds_for(2, began=940.0) == 60 and seconds_for(2, began=940.0, trainings=3) == 20
