"""`model.backbone: auto` in a training: chosen before any photo is read, said, and written into the run's recipe."""

from pathlib import Path

import pytest
import torch

from fieldguide import UsageError, experiment, train
from fieldguide.assemble import backbone as module
from fieldguide.assemble.measuring import Measuring
from fieldguide.model.table import KnownBackbone
from fieldguide.recipe.load import read_recipe
from fieldguide.run_folder import RunFolder

TWO = {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2}
TABLE = (
    KnownBackbone("resnet18.tv_in1k", 11_000_000, 1.8, 224, 69.8, 224),
    KnownBackbone("test_resnet.r160_in1k", 470_000, 0.1, 160, 40.0, 160),
)
SAME_SIZE = (TABLE[1], KnownBackbone("test_byobnet.r160_in1k", 460_000, 0.05, 160, 10.0, 160))  # both small, at 32 px
SETTINGS = ("model.backbone=auto", "data.image_size_px=32", "training.plan=null", "training.rounds=0")
SHORT = (*SETTINGS, "training.phases=[{augmentation: none, max_epochs: 1}]")


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(module, "known_backbones", lambda: TABLE)


def test_the_most_accurate_one_within_the_rules_is_trained_and_said(tmp_path, make_photos, capsys):
    photos = make_photos(tmp_path / "photos", TWO)
    settings = (*SHORT, "rules.max_parameters=1_000_000")
    run = train(photos, output=tmp_path / "run", weights="none", overrides=settings)
    assert run.result["backbone"] == "test_resnet.r160_in1k"
    assert read_recipe(run.path / "recipe.yaml").model.backbone == "test_resnet.r160_in1k"
    said = capsys.readouterr().out
    assert "model.backbone: auto is test_resnet.r160_in1k (40.0 % published on ImageNet" in said


def test_minutes_that_are_short_give_a_cheaper_one_by_this_machines_own_speed(tmp_path, make_photos, monkeypatch):
    photos = make_photos(tmp_path / "photos", TWO)
    seen = []

    def speed(recipe, device):
        seen.append(recipe.execution)
        return 1.0  # multiply-accumulates a second: nothing fits

    monkeypatch.setattr("fieldguide.assemble.described.macs_per_second", speed)
    run = train(photos, output=tmp_path / "run", weights="none", overrides=SHORT, minutes=1, quiet=True)
    assert seen == ["fast"] and run.result["backbone"] == "test_resnet.r160_in1k"


def test_rules_that_allow_none_are_a_mistake_of_the_request(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", TWO)
    with pytest.raises(UsageError, match="rules allow none of them"):
        train(
            photos, output=tmp_path / "run", weights="none", overrides=(*SHORT, "rules.max_parameters=10"), quiet=True
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_speed_is_measured_in_multiply_accumulates():

    from fieldguide.assemble import resolved
    from fieldguide.assemble.speed import macs_per_second
    from fieldguide.recipe.schema import Recipe

    assert 1e8 < macs_per_second(resolved(Recipe()), torch.device("cpu")) < 1e15


@pytest.mark.slow
def test_an_experiment_goes_on_with_the_backbone_that_it_chose_before(tmp_path, make_photos, monkeypatch, capsys):
    photos, speeds = make_photos(tmp_path / "photos", TWO), [1e18]
    monkeypatch.setattr(module, "known_backbones", lambda: SAME_SIZE)
    monkeypatch.setattr("fieldguide.assemble.described.macs_per_second", lambda recipe, device: speeds[-1])
    settings = (*SHORT, "training.max_minutes=1")
    for seeds, name in ((1, "auto"), (2, "auto-seed1")):
        asked = {"seeds": seeds, "overrides": settings, "weights": "none"}
        folder = tmp_path / f"out{seeds}"
        first = experiment(photos, ["auto"], folder, **asked)
        assert read_recipe(folder / name / "recipe.yaml").model.backbone == "test_resnet.r160_in1k"
        speeds.append(1.0)  # this machine is found to be slower now: nothing fits, so the cheapest would be taken
        capsys.readouterr()
        again = experiment(photos, ["auto"], folder, **asked)
        assert again.exit_code == 0 and again.rows == first.rows
        assert "model.backbone: auto is test_resnet.r160_in1k, as in " in capsys.readouterr().out
        speeds.pop()
    with pytest.raises(UsageError, match="was trained with another recipe"):
        settings = (*settings, "model.backbone=test_byobnet.r160_in1k")
        experiment(photos, ["auto"], tmp_path / "out1", overrides=settings, weights="none", quiet=True)


def test_a_backbone_that_was_not_chosen_because_of_other_mistakes_is_none_itself(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", TWO)
    for root, setting in ((photos, "training.sed=1"), (tmp_path / "nowhere", "training.seed=1")):
        with pytest.raises(UsageError) as error:
            train(root, output=tmp_path / "run", weights=tmp_path / "no.pth", overrides=(*SHORT, setting), quiet=True)
        assert "no such file" in str(error.value) and "auto is not available here" not in str(error.value)


@pytest.mark.slow
def test_a_folder_of_weights_is_measured_kept_in_the_result_and_trained_again_without_measuring(
    tmp_path, make_photos, two_weights, capsys
):
    photos, folder = make_photos(tmp_path / "photos", TWO), two_weights
    run = train(photos, output=tmp_path / "run", weights=folder, overrides=SHORT)
    tried = run.result["backbones"]
    assert {each["backbone"] for each in tried["tried"]} == {"test_resnet.r160_in1k", "test_byobnet.r160_in1k"}
    own = read_recipe(run.path / "recipe.yaml").model
    assert (own.backbone, own.weights) == (tried["backbone"], tried["weights"]) and Path(own.weights).is_file()
    assert "model.backbone: auto chooses from 2 candidates" in (said := capsys.readouterr().out)
    assert f"auto is {own.backbone} (loss" in " ".join(said.split())
    again = train(photos, recipe=run.path / "recipe.yaml", output=tmp_path / "again", quiet=True)
    assert again.result["backbones"] is None and again.result["validation"]["loss"] == run.result["validation"]["loss"]
    (folder / f"{own.backbone.partition('.')[0]}.safetensors").rename(tmp_path / "test_resnet.safetensors")
    only = train(photos, output=tmp_path / "only", weights=folder, overrides=SHORT)
    assert only.result["backbones"] is None and only.result["backbone"] != own.backbone
    assert "the only candidate; nothing to measure" in " ".join(capsys.readouterr().out.split())
    earlier = train(photos, output=tmp_path / "earlier", weights=run.path, overrides=SHORT, quiet=True)
    assert earlier.result["backbone"] == own.backbone


@pytest.mark.slow
def test_an_experiment_measures_once_a_recipe_and_goes_on_with_what_it_chose(
    tmp_path, make_photos, two_weights, monkeypatch, capsys
):
    photos, measured = make_photos(tmp_path / "photos", TWO), []
    best_of = Measuring.best_of

    def count(self, candidates):
        measured.append(len(candidates))
        return best_of(self, candidates)

    monkeypatch.setattr(Measuring, "best_of", count)
    asked = {"seeds": 2, "overrides": SHORT, "weights": two_weights}
    first = experiment(photos, ["auto"], tmp_path / "out", **asked)
    assert measured == [2]
    runs = [tmp_path / "out" / f"auto-seed{seed}" for seed in (0, 1)]
    models = [read_recipe(run / "recipe.yaml").model for run in runs]
    assert models[0] == models[1] and Path(models[0].weights).parent == two_weights
    tried = RunFolder(runs[1]).read_result()["backbones"]
    assert tried["backbone"] == models[0].backbone and len(tried["tried"]) == 2
    capsys.readouterr()
    again = experiment(photos, ["auto"], tmp_path / "out", **asked)
    assert measured == [2] and f"auto is {models[0].backbone}, as in" in " ".join(capsys.readouterr().out.split())
    assert [row["validation_accuracy"] for row in again.rows] == [row["validation_accuracy"] for row in first.rows]


def test_folds_measure_nothing_and_take_the_one_with_the_best_published_accuracy(
    tmp_path, make_photos, two_weights, monkeypatch, capsys
):
    monkeypatch.setattr("fieldguide.assemble.candidates.known_backbones", lambda: SAME_SIZE)
    photos = make_photos(tmp_path / "photos", {"a": 8, "b": 8})
    run = train(photos, output=tmp_path / "run", weights=two_weights, overrides=(*SHORT, "split.folds=2"))
    assert read_recipe(run.path / "fold-1" / "recipe.yaml").model.backbone == "test_resnet.r160_in1k"
    assert "measures nothing with split.folds" in " ".join(capsys.readouterr().out.split())


def test_the_default_recipe_finds_the_backbone_of_a_file_of_weights(tmp_path, make_photos, two_weights, capsys):
    photos = make_photos(tmp_path / "photos", TWO)
    run = train(photos, output=tmp_path / "run", weights=two_weights / "test_byobnet.safetensors", overrides=SHORT[1:])
    assert run.result["backbone"] == "test_byobnet.r160_in1k"
    assert "test_byobnet.safetensors, by its file name" in " ".join(capsys.readouterr().out.split())
