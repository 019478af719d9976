"""MixUp and CutMix through a whole training: interrupted, gone on with, and told."""

import pytest
import torch

from fieldguide.commands.resume import resume
from fieldguide.errors import Interrupted
from fieldguide.model.bundle import read_weights
from fieldguide.model.description import read_description
from fieldguide.training import step as steps
from fieldguide.training.mixing import Mix
from tests.commands.by_the_report import train


@pytest.mark.slow
def test_a_mixed_training_is_told_goes_on_as_if_it_had_not_stopped_and_is_never_mixed_in_validation(
    photos, tmp_path, small, monkeypatch, capsys
):
    plainly = (*small, "training.rounds=0", "training.micro_batch_size=4")
    overrides = (*plainly, "training.mixup_alpha=0.2", "training.cutmix_alpha=1")
    plain = train(photos, output=tmp_path / "plain", overrides=plainly)
    assert "mixed images" not in capsys.readouterr().out
    whole = train(photos, output=tmp_path / "whole", overrides=overrides)
    assert "training loss and accuracy are for mixed images" in capsys.readouterr().out
    assert whole.result["training"] != plain.result["training"]

    mixes, original = [], steps.train_step

    def stop_later(*arguments):
        mixes.append(arguments[5])
        if len(mixes) == 8:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("fieldguide.training.loop.train_step", stop_later)
        train(photos, output=tmp_path / "cut",
              overrides=(*overrides, "training.checkpoint_every_minutes=0"), quiet=True)  # fmt: skip
    assert all(isinstance(mix, Mix) for mix in mixes) and {mix.box is None for mix in mixes} == {True, False}
    with monkeypatch.context() as patched:
        mixed, images = [], Mix.images
        patched.setattr(Mix, "images", lambda mix, photos: mixed.append(len(photos)) or images(mix, photos))
        resumed = resume(tmp_path / "cut", quiet=True)
    steps_per_epoch = -(-whole.result["split"]["train"] // 8)
    assert len(mixed) == steps_per_epoch * whole.result["epochs"] - 7  # a training step each, and none in validation
    for key in ("validation", "training", "best_epoch", "stages"):
        assert resumed.result[key] == whole.result[key]
    one, two = (read_weights(run.path / "bundle", read_description(run.path / "bundle")) for run in (whole, resumed))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
