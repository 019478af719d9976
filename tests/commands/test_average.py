"""The moving average through a whole training: interrupted, gone on with, and judged."""

import signal

import pytest
import torch

from fieldguide import resume
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.model.bundle import read_weights
from fieldguide.model.description import read_description
from tests.commands.by_the_report import train
from tests.torture.runner import EVERY_STEP, differences

STEPS_PER_EPOCH = 5  # 37 photos in batches of 8


@pytest.fixture
def sigterm_after(monkeypatch):
    """sigterm_after(7): the next training in this process gets a SIGTERM after its seventh step."""

    def arrange(number):
        real, done = TrainingDisplay.step_done, []

        def step_done(self, images):
            real(self, images)
            done.append(images)
            if len(done) == number:
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(TrainingDisplay, "step_done", step_done)

    return arrange


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "folded"])
def test_a_training_with_a_moving_average_goes_on_as_if_it_had_not_stopped(
    mode, photos, tmp_path, small, sigterm_after
):
    overrides = (*small, EVERY_STEP, "training.ema_decay=0.9", f"training.phases.1.batch_norm={mode}",
                 "training.phases.0.max_epochs=1", "training.phases.1.max_epochs=2")  # fmt: skip
    whole = train(photos, output=tmp_path / "whole", overrides=overrides, quiet=True)
    sigterm_after(STEPS_PER_EPOCH + 3)
    assert train(photos, output=tmp_path / "cut", overrides=overrides, quiet=True).exit_code == 143
    assert resume(tmp_path / "cut", quiet=True).exit_code == 0
    assert differences(whole.path, tmp_path / "cut") == []


def test_the_bundle_is_the_average_and_differs_from_the_weights(photos, tmp_path, small):
    overrides = (*small, "training.rounds=0", "training.phases.0.max_epochs=1", "training.max_epochs=1")
    plain = train(photos, output=tmp_path / "plain", overrides=overrides, quiet=True)
    averaged = train(photos, output=tmp_path / "averaged", overrides=(*overrides, "training.ema_decay=0.9"), quiet=True)
    one, two = (read_weights(run.path / "bundle", read_description(run.path / "bundle")) for run in (plain, averaged))
    different = {name for name in one if not torch.equal(one[name], two[name])}
    assert any(name.endswith("running_mean") for name in different) and any(
        name.endswith("conv1.weight") for name in different
    )
    assert plain.result["training"] == averaged.result["training"]  # the weights learnt as before
    assert plain.result["validation"]["loss"] != averaged.result["validation"]["loss"]
