"""The rules of a competition, checked before the training, with a verdict for the result."""

import pytest

from fieldguide.recipe.load import read_recipe
from fieldguide.recipe.rules import verdict


def test_a_model_within_the_rules_is_kept_and_the_rules_are_recorded():
    found = verdict(read_recipe("resnet50-adam"), 25_710_756, "imagenet-1k")
    assert found["kept"] is True and found["broken"] == [] and found["unverified"] == []
    assert (found["max_parameters"], found["pretraining"], found["external_data"]) == (100_000_000, "any", "none")


@pytest.mark.parametrize(("count", "is_kept"), [(99_999_999, True), (100_000_000, False)])
def test_fewer_than_100_million_means_fewer(count, is_kept):
    found = verdict(read_recipe("resnet50-adam"), count, None)
    assert found["kept"] is is_kept
    assert is_kept or "rules.max_parameters: 100,000,000 parameters, and fewer than 100,000,000" in found["broken"][0]


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
    assert is_kept or f"rules.backbones: {backbone} is not among the allowed" in found["broken"][0]


@pytest.mark.parametrize(("pretrained_on", "is_kept"), [("none", True), ("imagenet-1k", True), ("fb_wsl_ig1b", False)])
def test_pretraining_on_imagenet_1k_alone_is_checked(pretrained_on, is_kept):
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k"])
    found = verdict(recipe, 1, pretrained_on)
    assert found["kept"] is is_kept
    assert is_kept or f"trained on {pretrained_on}, and only imagenet-1k is allowed" in found["broken"][0]


def test_weights_from_a_file_are_said_to_be_unverified():
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k", "model.weights=x.pth"])
    found = verdict(recipe, 1, None)
    assert found["kept"] and "nothing in x.pth says" in found["unverified"][0]


def test_all_broken_rules_are_told_together():
    recipe = read_recipe("resnet50-adam", ["rules.pretraining=imagenet-1k", "model.backbone=vit_tiny_patch16_224"])
    assert len(verdict(recipe, 10**9, "laion2b")["broken"]) == 3


def test_a_recipe_without_rules_allows_everything():
    recipe = read_recipe("resnet50-adam", ["rules={}", "model.backbone=vit_tiny_patch16_224"])
    assert verdict(recipe, 10**12, "laion2b")["kept"]
