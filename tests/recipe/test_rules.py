"""The rules of a competition, checked before the training, with a verdict for the result."""

import re

import pytest

from fieldguide.recipe.load import read_recipe
from fieldguide.recipe.rules import Member, verdict, verdict_on_ensemble
from fieldguide.recipe.schema import Rules


def test_a_model_within_the_rules_is_kept_and_the_rules_are_recorded():
    found = verdict(read_recipe("resnet50-adam"), 25_710_756, "imagenet-1k")
    assert found["kept"] is True and found["broken"] == [] and found["unverified"] == []
    assert (found["max_parameters"], found["pretraining"], found["external_data"]) == (100_000_000, "any", "none")


@pytest.mark.parametrize(("count", "is_kept"), [(99_999_999, True), (100_000_000, False)])
def test_fewer_than_100_million_means_fewer(count, is_kept):
    found = verdict(read_recipe("resnet50-adam"), count, None)
    assert found["kept"] is is_kept
    assert is_kept or "rules.max_parameters: 100,000,000 parameters, but fewer than 100,000,000" in found["broken"][0]


@pytest.mark.parametrize(
    ("backbone", "is_kept"),
    [
        ("resnet18", True),
        ("timm/resnet18.tv_in1k", True),
        ("resnext50_32x4d.a1_in1k", True),
        ("seresnextaa101d_32x8d.sw_in12k_ft_in1k_288", True),
        ("resnet50d.ra2_in1k", True),
        ("resnetrs50", True),
        ("legacy_seresnet18.in1k", True),
        ("vit_tiny_patch16_224", False),
        ("convnext_tiny", False),
        ("densenet121", False),
        ("resnest50d", False),
        ("cspresnet50", False),
    ],
)
def test_the_backbone_must_be_of_the_resnet_family(backbone, is_kept):
    found = verdict(read_recipe("resnet50-adam", [f"model.backbone={backbone}"]), 1, None)
    assert found["kept"] is is_kept
    assert is_kept or f"rules.backbones: {backbone} is not allowed (only " in found["broken"][0]


@pytest.mark.parametrize(("pretrained_on", "is_kept"), [("none", True), ("imagenet-1k", True), ("fb_wsl_ig1b", False)])
def test_pretraining_on_imagenet_1k_alone_is_checked(pretrained_on, is_kept):
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k"])
    found = verdict(recipe, 1, pretrained_on)
    assert found["kept"] is is_kept
    assert is_kept or f"trained on {pretrained_on}, but only imagenet-1k is allowed" in found["broken"][0]


def test_weights_from_a_file_are_said_to_be_unverified():
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k", "model.weights=x.pth"])
    found = verdict(recipe, 1, None)
    assert found["kept"] and "cannot verify that x.pth" in found["unverified"][0]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (
            ["rules.external_data=none"],
            ["rules.external_data: runs/a was trained on 2 photos outside this folder"],
        ),
        (
            ["rules.external_data=any", "rules.pretraining=imagenet-1k"],
            ["rules.pretraining: runs/a was trained on 2 photos outside this folder"],
        ),
        (["rules.external_data=any"], []),
    ],
)
def test_weights_of_a_run_on_other_photos_break_the_rules_of_data(rules, words):
    recipe = read_recipe("resnet50-adam", [*rules, "model.weights=runs/a"])
    found = verdict(recipe, 1, "imagenet-1k", other_photos=2)
    assert found["kept"] is not bool(words) and len(found["broken"]) == len(words) and found["unverified"] == []
    assert all(broken.startswith(word) for broken, word in zip(found["broken"], words, strict=True))
    assert verdict(recipe, 1, "imagenet-1k")["kept"]  # a run of the same photos


def test_weights_whose_photos_nobody_can_tell_are_unverified_for_external_data_too():
    recipe = read_recipe("resnet50-adam", ["model.weights=x.pth"])
    (told,) = verdict(recipe, 1, None)["unverified"]
    assert told == "rules.external_data: cannot verify which photos x.pth was trained on; check it yourself"
    strict = read_recipe("resnet50-adam", ["model.weights=runs/a", "rules.pretraining=imagenet-1k"])
    told = verdict(strict, 1, "imagenet-1k", unknown=["old/bundle"])["unverified"]
    assert len(told) == 2 and all("old/bundle" in sentence for sentence in told)
    assert verdict(read_recipe("resnet50-adam", ["model.weights=x.pth", "rules={}"]), 1, None)["unverified"] == []


def test_all_broken_rules_are_told_together():
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k", "model.backbone=vit_tiny_patch16_224"])
    assert len(verdict(recipe, 10**9, "laion2b")["broken"]) == 3


def test_a_recipe_without_rules_allows_everything():
    recipe = read_recipe("resnet50-adam", ["rules={}", "model.backbone=vit_tiny_patch16_224"])
    assert verdict(recipe, 10**12, "laion2b")["kept"]


def member(
    name,
    rules=None,
    count=10,
    backbone="resnet18.a1_in1k",
    pretrained_on="imagenet-1k",
    photos=("a",),
    before=(),
    licence=None,
):
    known = None if before is None else frozenset(before)
    ruled = None if rules is None else Rules(**rules)
    return Member(name, backbone, count, pretrained_on, ruled, frozenset(photos), known, licence)


def test_members_are_held_together_against_the_strictest_of_their_rules():
    kept = verdict_on_ensemble([member("a", {"max_parameters": 21}), member("b", {"max_parameters": 50})])
    assert kept["kept"] and (kept["parameters"], kept["max_parameters"]) == (20, 21) and kept["unverified"] == []
    found = verdict_on_ensemble([member("a", {"max_parameters": 50}), member("b", {"max_parameters": 20})])
    (broken,) = found["broken"]
    assert broken == ("rules.max_parameters: 20 parameters in 2 runs (10 + 10), but the rules of b allow fewer than 20")
    free = verdict_on_ensemble([member("a", {}), member("b", {})])
    assert free["kept"] and free["max_parameters"] is None and free["backbones"] is None


def test_a_backbone_must_be_allowed_by_every_run():
    strict = {"backbones": ["resnet*"]}
    found = verdict_on_ensemble([member("a", strict), member("b", {}, backbone="convnext_tiny.in1k")])
    assert found["broken"] == ["rules.backbones: a does not allow convnext_tiny.in1k of b"]
    assert found["backbones"] == [["resnet*"]]


@pytest.mark.parametrize(
    ("rule", "pretrained_on", "words"),
    [
        ("imagenet-1k", "laion2b", "b was pretrained on laion2b, but a allows only imagenet-1k"),
        ("none", "imagenet-1k", "b was pretrained on imagenet-1k, but a allows only none"),
        ("none", None, "b was pretrained on unknown photos, but a allows only none"),
    ],
)
def test_pretraining_must_be_allowed_by_the_strictest_run(rule, pretrained_on, words):
    members = [member("a", {"pretraining": rule}, pretrained_on="none"), member("b", {}, pretrained_on=pretrained_on)]
    found = verdict_on_ensemble(members)
    assert found["broken"] == [f"rules.pretraining: {words}"] and found["pretraining"] == rule
    assert verdict_on_ensemble([members[0], member("c", {}, pretrained_on="none")])["kept"]


def test_what_nobody_can_tell_of_members_is_said_and_breaks_nothing():
    members = [
        member("a", {"pretraining": "imagenet-1k", "external_data": "none"}, photos=("x", "y")),
        member("b", {"external_data": "any"}, pretrained_on=None, photos=("x",)),
        member("c", None, photos=()),
        member("d", {"external_data": "any"}, photos=("x", "z")),
    ]
    found = verdict_on_ensemble(members)
    assert found["kept"] and found["external_data"] == "none" and len(found["unverified"]) == 4
    text = "\n".join(found["unverified"])
    assert "c: a bundle without its run" in text and "cannot verify what b was pretrained on" in text
    assert "a allows none, but c may have been trained on photos" in text and "but d may have been" in text


def test_what_a_member_began_from_counts_among_the_photos_that_it_was_trained_on():
    strict = member("a", {"external_data": "none"}, photos=("x", "y"))
    assert verdict_on_ensemble([strict, member("b", {}, photos=("x",), before=("y",))])["unverified"] == []
    for before in (("z",), None):
        (told,) = verdict_on_ensemble([strict, member("b", {}, photos=("x",), before=before)])["unverified"]
        assert "a allows none, but b may have been trained on photos outside its folder" in told


@pytest.mark.parametrize("rule", ["imagenet-1k", "none"])
def test_a_member_that_began_from_other_photos_than_its_own_was_pretrained_on_them(rule):
    strict = member("a", {"pretraining": rule}, pretrained_on="none")
    found = verdict_on_ensemble([strict, member("b", {}, pretrained_on="none", photos=("x",), before=("x", "z"))])
    words = f"b started from 1 photo outside its folder, but a allows only {rule}"
    assert found["broken"] == [f"rules.pretraining: {words}"]
    assert verdict_on_ensemble([strict, member("c", {}, pretrained_on="none", photos=("x",), before=("x",))])["kept"]


@pytest.mark.parametrize(
    ("licence", "is_kept", "words"),
    [
        ("apache-2.0", True, None),
        ("cc-by-nc-4.0", False, "resnet18.fb_swsl_ig1b_ft_in1k are under cc-by-nc-4.0, which forbids commercial use"),
        ("fair-noncommercial-research-license", False, "which forbids commercial use"),
        ("dinov3-license", True, "cannot verify .* (the licence is dinov3-license); read the licence yourself"),
        (None, True, "cannot verify .* (the licence is unknown)"),
    ],
)
def test_weights_that_forbid_commercial_use_are_refused_and_unknown_ones_are_told(licence, is_kept, words):
    asked = ["rules.licence=commercial", "model.backbone=resnet18.fb_swsl_ig1b_ft_in1k"]
    found = verdict(read_recipe("resnet50-adam", asked), 1, "imagenet-1k", licence=licence)
    assert found["kept"] is is_kept and found["weights_licence"] == licence and found["licence"] == "commercial"
    told = found["unverified"] if is_kept else found["broken"]
    assert (not told) if words is None else re.search(words.replace("(", r"\(").replace(")", r"\)"), told[0])
    assert verdict(read_recipe("resnet50-adam", asked[1:]), 1, "imagenet-1k", licence=licence)["unverified"] == []


def test_random_weights_have_no_licence_to_break():
    asked = ["rules.licence=commercial", "model.weights=none"]
    assert verdict(read_recipe("resnet50-adam", asked), 1, "none")["unverified"] == []


def test_a_member_whose_weights_forbid_commercial_use_breaks_the_rule_of_another():
    members = [member("a", {"licence": "commercial"}, pretrained_on="none"), member("b", {}, licence="cc-by-nc-4.0")]
    found = verdict_on_ensemble(members)
    assert not found["kept"] and "the weights of b are under cc-by-nc-4.0" in found["broken"][0]
