"""Batch normalisation frozen or folded, through a whole training: interrupted, gone on with, and judged."""

import json

import pytest
import torch

from fieldguide import train
from fieldguide.commands.resume import resume
from fieldguide.errors import Interrupted
from fieldguide.model.bundle import read_description, read_weights
from fieldguide.training import step as steps


@pytest.mark.parametrize("mode", ["frozen", "folded"])
def test_a_training_with_folded_normalisation_goes_on_as_if_it_had_not_stopped(
    mode, photos, trained, tmp_path, small, monkeypatch
):
    """Its first phase trains the normalisation; the second has it frozen or folded, and is stopped in its middle."""
    overrides = (*small, f"training.phases.1.batch_norm={mode}", "training.phases.0.max_epochs=1",
                 "training.phases.1.max_epochs=2", "execution=fast", "training.precision=fp32")  # fmt: skip
    whole = train(photos, output=tmp_path / "whole", overrides=overrides, quiet=True)

    calls, original = [], steps.train_step

    def stop_later(*arguments):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("fieldguide.training.loop.train_step", stop_later)
        train(
            photos, output=tmp_path / "cut",
            overrides=(*overrides, "training.checkpoint_every_minutes=0.0001"), quiet=True,
        )  # fmt: skip
    resumed = resume(tmp_path / "cut", quiet=True)
    for key in ("validation", "best_epoch", "stages"):
        assert resumed.result[key] == whole.result[key]
    one, two = (read_weights(run.path / "bundle", read_description(run.path / "bundle")) for run in (whole, resumed))
    assert set(one) == set(two) and all(torch.equal(value, two[name]) for name, value in one.items())
    assert "backbone.conv1.0.bias" not in one


def test_what_a_machine_made_of_auto_is_written_down(photos, tmp_path, small):
    run = train(photos, output=tmp_path / "run", overrides=(*small, "execution=fast", "training.rounds=0"), quiet=True)
    text = (run.path / "recipe.yaml").read_text()
    assert "auto" not in text.replace("# ", "")
    assert run.result["precision"] in ("bf16", "fp32") and run.result["micro_batch_size"] == 8
    assert run.result["halved"] == []


def test_a_training_that_runs_out_of_memory_goes_on_with_less_at_once_and_says_so(
    photos, tmp_path, small, monkeypatch, capsys
):
    original = steps._gradients

    def cramped(model, optimizer, images, labels, settings):
        if settings.micro_batch.photos > 4:
            raise torch.OutOfMemoryError("no memory")
        return original(model, optimizer, images, labels, settings)

    monkeypatch.setattr(steps, "_gradients", cramped)
    run = train(photos, output=tmp_path / "run", overrides=(*small, "training.rounds=0"))
    assert "memory ran out in epoch 1, step 1" in capsys.readouterr().out
    assert json.loads((run.path / "result.json").read_text())["halved"] == [{"epoch": 1, "step": 1, "photos": 4}]
    assert run.result["epochs"] == 5
