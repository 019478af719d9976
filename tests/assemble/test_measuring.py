"""`model.backbone: auto` on photos: candidates are compared on held-out training photos, within their time."""

import contextlib

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldguide.assemble import measuring
from fieldguide.assemble.candidates import MOST_RESNETS, Candidate, candidates_at_hand
from fieldguide.assemble.measuring import Contender, Measuring, _cheapest_of_equals
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import UsageError
from fieldguide.model import pretrained
from fieldguide.recipe.load import read_recipe

AUTO = ("model.backbone=auto", "data.image_size_px=32")


@pytest.fixture
def folder(two_weights):
    return two_weights


@pytest.fixture
def photos(tmp_path, make_photos):
    """(split, paths) of three classes in colours of their own."""
    root = make_photos(tmp_path / "photos", {"train/a": 30, "train/b": 30, "train/c": 30, "val/a": 5})
    paths = {str(path.relative_to(root)): path for path in sorted(root.rglob("*.png"))}
    rows = tuple(Row(name, name.split("/")[1], name.split("/")[0], "") for name in paths)
    return Split(rows), paths


def test_each_candidate_is_measured_on_the_same_held_out_training_photos(folder, photos):
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}"])
    found, told = candidates_at_hand(recipe, 3)
    assert {each.backbone.partition(".")[0] for each in found} == {"test_resnet", "test_byobnet"} and not told
    made = Measuring(recipe, *photos, torch.device("cpu"), None)
    files = {row.file for row in (*made.held, *made.rest)}
    assert len(made.held) == 22 and all(file.startswith("train/") for file in files)
    measured = made.best_of(found)
    assert measured.best in found and measured.left_out == ()
    assert {tried["backbone"] for tried in measured.tried} == {each.backbone for each in found}
    for tried in measured.tried:
        assert tried["held_out"] == 22 and tried["photos"] >= 6 and tried["seconds_a_photo"] > 0
        assert 0 <= tried["accuracy"] <= 1 and np.isfinite(tried["loss"])
    assert measured.best.backbone in measured.sentence() and "held-out training photos" in measured.sentence()


@pytest.mark.parametrize(("asked", "expected"), [("auto", "fp16"), ("fp32", "fp32")])
def test_candidates_are_measured_in_what_the_training_computes_in(folder, photos, monkeypatch, asked, expected):
    computed = set()

    def context(precision, device):
        computed.add(precision)
        return contextlib.nullcontext

    monkeypatch.setattr(measuring, "fastest_precision", lambda device: "fp16")  # as on a T4
    monkeypatch.setattr(measuring, "precision_context", context)
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}", f"training.precision={asked}"])
    found, _ = candidates_at_hand(recipe, 3)
    Measuring(recipe, *photos, torch.device("cpu"), None).best_of(found[:1])
    assert computed == {expected}


def test_the_same_backbone_with_useless_weights_loses(folder, photos):
    """Its features are all the same, so that its probe can only guess."""
    dead = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file({name: torch.zeros_like(value) for name, value in dead.items()}, folder / "dead.safetensors")
    candidates = [
        Candidate("test_resnet.r160_in1k", str(folder / "dead.safetensors")),
        Candidate("test_resnet.r160_in1k", str(folder / "test_resnet.safetensors")),
    ]
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}"])
    measured = Measuring(recipe, *photos, torch.device("cpu"), None).best_of(candidates)
    assert measured.best == candidates[1] and measured.tried[0]["accuracy"] > measured.tried[1]["accuracy"]


@pytest.mark.slow
def test_one_that_cannot_be_loaded_or_does_not_take_the_size_is_left_out_with_the_reason(folder, photos):
    candidates = [
        Candidate("test_resnet.r160_in1k", str(folder / "test_byobnet.safetensors")),
        Candidate("vit_small_patch14_dinov2.lvd142m", str(folder / "none.safetensors")),
        Candidate("test_byobnet.r160_in1k", str(folder / "test_byobnet.safetensors")),
    ]
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}"])
    measured = Measuring(recipe, *photos, torch.device("cpu"), None).best_of(candidates)
    assert measured.best == candidates[2]
    assert "fits only" in measured.left_out[0] and "does not take 32 x 32" in measured.left_out[1]


def test_a_slow_one_sees_fewer_photos_and_with_no_time_at_all_the_first_goes_on(folder, photos):
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}"])
    made = Measuring(recipe, *photos, torch.device("cpu"), 100.0)
    assert made.budget == pytest.approx(15) and made._sees(0.1) == len(made.rest)
    assert made._sees(1.0) == int(0.6 * 85 - 5) and made._sees(100.0) == 0
    short = Measuring(recipe, *photos, torch.device("cpu"), 0.0)
    found, _ = candidates_at_hand(recipe, 3)
    assert short.best_of(found).best in found


def test_of_two_that_do_not_differ_the_cheaper_goes_on():
    def contender(losses, seconds):
        made = Contender(Candidate("x", "y"), None, None, None, "fp32", [seconds])
        made.losses = np.array(losses)
        return made

    quick, slow = contender([1.0, 1.1, 0.9, 1.2], 0.1), contender([1.0, 1.0, 1.0, 1.0], 0.5)
    assert _cheapest_of_equals([slow, quick])[0] is quick
    worse = contender([2.0, 2.1, 1.9, 2.2], 0.1)
    assert _cheapest_of_equals([slow, worse])[0] is slow


def test_a_folder_names_each_file_that_fits_nothing(folder):
    save_file({"a": torch.zeros(3)}, folder / "strange.safetensors")
    recipe = read_recipe("auto", [*AUTO, f"model.weights={folder}"])
    found, told = candidates_at_hand(recipe, 3)
    assert len(found) == 2 and told == [
        "strange.safetensors fits no backbone that fieldguide can guess; name it in model.backbone"
    ]
    strange = read_recipe("auto", [*AUTO, f"model.weights={folder / 'strange.safetensors'}"])
    with pytest.raises(UsageError, match=r"strange\.safetensors fits no backbone"):
        candidates_at_hand(strange, 3)


def test_of_the_hub_those_in_its_cache_where_it_does_not_answer(monkeypatch):
    monkeypatch.setattr(pretrained, "is_cached", lambda name: name.startswith(("convnext_nano", "resnet34")))
    monkeypatch.setattr(pretrained, "silence_of_hub", lambda: "no answer")
    found, told = candidates_at_hand(read_recipe("auto", AUTO), 3)
    assert [each.backbone for each in found] == ["resnet34.a1_in1k", "convnext_nano.in12k_ft_in1k"]
    assert told == ["13 of 15 backbones are not in the Hub's cache (no answer)"]


@pytest.mark.slow
def test_rules_leave_resnets_alone_and_licences_that_allow_the_use(monkeypatch):
    monkeypatch.setattr(pretrained, "silence_of_hub", lambda: None)
    resnets = read_recipe("auto", [*AUTO, "rules.backbones=[resnet*, resnext*]", "rules.max_parameters=50000000"])
    found, _ = candidates_at_hand(resnets, 3)
    assert 1 < len(found) <= MOST_RESNETS and all(each.backbone.startswith(("resnet", "resnext")) for each in found)
    every, _ = candidates_at_hand(read_recipe("auto", AUTO), 3)
    monkeypatch.setattr(
        "fieldguide.assemble.backbone.licence", lambda name: "cc-by-nc-4.0" if "conv" in name else "mit"
    )
    free, _ = candidates_at_hand(read_recipe("auto", [*AUTO, "rules.licence=commercial"]), 3)
    assert {each.backbone for each in every} - {each.backbone for each in free} == {
        each.backbone for each in every if "conv" in each.backbone
    }
