"""Trainings on classes of very different sizes."""

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from fieldguide import resume, train
from fieldguide.assemble.tools import logit_adjustment
from fieldguide.commands.terminal.interrupts import Interrupts
from fieldguide.data.split.partition import Row, Split
from fieldguide.recipe.load import read_recipe
from fieldguide.training.ends import Cause, Stopped

COUNTS = {"train/ant": 26, "train/bee": 8, "train/cow": 2, "val/ant": 8, "val/bee": 2, "val/cow": 1}
BY_SIGNAL = Stopped(Cause.SIGNAL, signal="SIGINT")
BY_SIGNAL = Stopped(Cause.SIGNAL, signal="SIGINT")
MACRO = ("training.metric=macro_accuracy", "training.best_by=validation_accuracy")


@pytest.fixture
def uneven(tmp_path, make_photos):
    return make_photos(tmp_path / "photos", COUNTS)


def history(run):
    return [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]


def without_times(run):
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in history(run)]


def test_the_adjustment_is_the_logarithm_of_each_classs_share_of_the_training_photos():
    rows = [
        Row(f"{part}/{name}/{number}.jpg", name, part, "", "")
        for part, name, count in (("train", "10", 6), ("train", "2", 2), ("val", "2", 50))
        for number in range(count)
    ]
    assert torch.allclose(logit_adjustment(Split(tuple(rows))), torch.tensor([6 / 8, 2 / 8]).log())


@pytest.mark.slow
def test_the_model_with_the_best_macro_accuracy_is_kept_and_result_history_and_screen_say_so(
    uneven, tmp_path, small, capsys
):
    run = train(uneven, recipe="resnet34-adam", output=tmp_path / "run", overrides=(*small, *MACRO))
    lines, result = history(run), run.result
    best = max(lines, key=lambda line: (line["validation"]["macro_accuracy"], -line["validation"]["loss"]))
    assert result["best_epoch"] == best["epoch"]
    assert result["validation"]["macro_accuracy"] == pytest.approx(best["validation"]["macro_accuracy"])
    assert result["validation"]["loss"] == pytest.approx(best["validation"]["loss"], rel=1e-4)
    assert (result["metric"], result["imbalance"]) == ("macro_accuracy", "logit_adjustment")
    assert result["validation"]["chose"]["text"].endswith("by validation macro accuracy")
    assert "macro_accuracy" not in lines[0]["training"]
    shown = f"validation loss {lines[0]['validation']['loss']:.4f} macro accuracy "
    assert f"{shown}{lines[0]['validation']['macro_accuracy']:.4f}" in capsys.readouterr().out
    assert read_recipe(run.path / "recipe.yaml").training.imbalance == "logit_adjustment"


def test_a_plain_training_is_none_of_it_and_an_adjusted_one_differs_in_its_loss(uneven, tmp_path, small):
    short = (*small, "training.max_epochs=1", "training.learning_rate=1e-9")
    runs = {
        imbalance: train(
            uneven,
            recipe="resnet34-adam",
            output=tmp_path / imbalance,
            overrides=(*short, f"training.imbalance={imbalance}"),
            quiet=True,
        )
        for imbalance in ("none", "logit_adjustment")
    }
    plain, adjusted = (history(runs[name])[0] for name in ("none", "logit_adjustment"))
    assert runs["none"].result["metric"] == "accuracy" and runs["none"].result["imbalance"] == "none"
    assert plain["training"]["loss"] != pytest.approx(adjusted["training"]["loss"], rel=0.05)
    assert plain["training"]["accuracy"] == adjusted["training"]["accuracy"]
    assert plain["validation"]["loss"] == pytest.approx(adjusted["validation"]["loss"], rel=1e-3)  # no adjustment there


@pytest.mark.slow
@pytest.mark.parametrize("steps_follow", [False, True])
def test_a_probe_sees_each_photo_once_and_leaves_the_prior_out_where_it_is_all_that_is_trained(
    uneven, tmp_path, small, steps_follow
):
    kept = [setting for setting in small if not setting.startswith(("training.phases", "training.learning_rate"))]
    phases = "{method: probe, augmentation: none}" + ", {augmentation: none, max_epochs: 1}" * steps_follow
    probe = (*kept, "model.head=linear", f"training.phases=[{phases}]", "training.rounds=0")
    heads, lines = {}, {}
    for imbalance in ("none", "balanced_sampling", "logit_adjustment"):
        settings = (*probe, f"training.imbalance={imbalance}", "training.learning_rate=1e-9")
        run = train(uneven, recipe="resnet34-adam", output=tmp_path / imbalance, overrides=settings, quiet=True)
        heads[imbalance] = load_file(run.path / "bundle" / "model.safetensors")["head.0.bias"]
        lines[imbalance] = history(run)[0]
    prior = torch.tensor([26 / 36, 8 / 36, 2 / 36]).log() * (not steps_follow)
    for imbalance in ("balanced_sampling", "logit_adjustment"):
        seen = {name: lines[imbalance]["training"][name] for name in ("images", "loss")}
        assert seen == {name: lines["none"]["training"][name] for name in ("images", "loss")} and seen["images"] == 36
        assert torch.allclose(heads["none"] - heads[imbalance], prior, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["exact", "fast"])
def test_a_balanced_training_that_was_stopped_in_mid_epoch_ends_as_if_it_had_not_been(
    uneven, tmp_path, small, monkeypatch, execution
):
    engine = "null" if execution == "fast" else "reference"
    overrides = (
        *small, *MACRO, "training.imbalance=balanced_sampling", "training.max_epochs=3", f"execution={execution}",
        f"augmentation.engine={engine}", "training.checkpoint_every_minutes=0",
    )  # fmt: skip
    whole = train(uneven, recipe="resnet34-adam", output=tmp_path / "whole", overrides=overrides, quiet=True)
    assert history(whole)[0]["training"]["images"] == 36
    asked = iter([None] * 7)
    with monkeypatch.context() as patch:
        patch.setattr(Interrupts, "reason", lambda self: next(asked, BY_SIGNAL))
        stopped = train(uneven, recipe="resnet34-adam", output=tmp_path / "stopped", overrides=overrides, quiet=True)
    assert len(history(stopped)) == 1
    resumed = resume(tmp_path / "stopped", quiet=True)
    assert resumed.result["stopped"] is None
    assert without_times(resumed) == without_times(whole)
    assert Counter(line["best"] for line in history(whole))[True] >= 1
