"""Backbone and head as one network, and what of it learns."""

import pytest
import torch

from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import (
    can_join_stages,
    count_parameters,
    demand_image_size,
    make_classifier,
    make_on_meta,
    set_trainable,
    trainable_names,
)

SMALL = Architecture("resnet10t", "mlp", 16, 0.3, 3)


@pytest.fixture(scope="module")
def model():
    return make_on_meta(SMALL)


def test_a_network_goes_from_images_to_logits():
    made = make_classifier(SMALL).eval()
    with torch.inference_mode():
        assert made(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_the_same_generator_gives_the_same_network():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(make_classifier(SMALL).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_parameters_are_counted_backbone_and_head_apart(model):
    counts = count_parameters(model)
    head = 512 * 16 + 16 + 16 * 3 + 3
    assert counts["head"] == head and counts["total"] == counts["backbone"] + head
    assert counts["total"] == sum(parameter.numel() for parameter in make_classifier(SMALL).parameters())


@pytest.mark.parametrize(
    ("part", "stages"), [("head", []), ("last_stage", ["layer4"]), ("last_two_stages", ["layer3", "layer4"])]
)
def test_only_the_part_that_is_named_learns(model, part, stages):
    names = trainable_names(model, part)
    expected = ["head", *(f"backbone.{stage}" for stage in stages)]
    for name, _ in model.named_parameters():
        assert (name in names) == name.startswith(tuple(f"{prefix}." for prefix in expected)), name


def test_everything_learns_and_can_be_frozen_and_freed_again():
    made = make_classifier(SMALL)
    for part in ("head", "all", "last_stage"):
        set_trainable(made, part)
        learning = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
        assert learning == trainable_names(made, part)
    assert trainable_names(made, "all") == [name for name, _ in made.named_parameters()]


def test_the_last_stage_of_a_network_that_ends_in_a_normalisation_is_more_than_that():
    made = make_on_meta(Architecture("convnext_atto", "linear", None, 0.0, 3))
    names = trainable_names(made, "last_stage")
    assert "backbone.head.norm.weight" in names
    assert any(name.startswith("backbone.stages.3.blocks") for name in names)


@pytest.mark.parametrize(("backbone", "last"), [("caformer_s18", "stages.3."), ("rdnet_tiny", "dense_stages.6.")])
def test_stages_that_timm_does_not_group_end_where_it_takes_features(backbone, last):
    made = make_on_meta(Architecture(backbone, "linear", None, 0.0, 3))
    names = trainable_names(made, "last_stage")
    assert any(name.startswith(f"backbone.{last}") for name in names)
    assert not any(name.startswith("backbone.stem") for name in names)


def test_a_network_whose_stages_nobody_knows_is_refused_with_what_to_use(monkeypatch):
    made = make_on_meta(Architecture("caformer_s18", "linear", None, 0.0, 3))
    monkeypatch.delattr(made.backbone, "feature_info")
    with pytest.raises(UsageError, match=r"timm does not list this backbone's stages; use trainable all or head"):
        trainable_names(made, "last_stage")
    assert trainable_names(made, "head") == ["head.0.weight", "head.0.bias"]


JOINED = {
    "resnet18": 128 + 256 + 512,
    "efficientnet_lite0": 40 + 112 + 1280,
    "convnext_atto": 80 + 160 + 320,
    "swin_tiny_patch4_window7_224": 192 + 384 + 768,
    "test_resnet": 48 + 192 + 96,
}


MAXIMA = {
    "resnet18": 128 + 256 + 512,
    "efficientnet_lite0": 40 + 112 + 1280,
    "convnext_atto": 80 + 160 + 320,
    "swin_tiny_patch4_window7_224": 192 + 384 + 768,
    "mobilenetv4_conv_small_035": 24 + 32 + 336,  # its own features are made after pooling
    "test_resnet": 48 + 192 + 96,
}


def joined(name, takes):
    """A classifier of joined stages, two images, and their features."""
    made = make_classifier(Architecture(name, "linear", None, 0.0, 3, takes)).eval()
    side = made.interface.preprocessing["image_size_px"] if "swin" in name else 64
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return made, images, made.features(images)


@pytest.mark.parametrize(("name", "width"), JOINED.items())
def test_features_of_three_stages_end_with_the_backbones_own(name, width):
    made, images, features = joined(name, "stages")
    with torch.inference_mode():
        own = made.backbone(images)
    assert features.shape == (2, width) and made.num_features == width == made.head[0].in_features
    torch.testing.assert_close(features[:, -own.shape[1] :], own)
    earlier = features[:, : -own.shape[1]]
    assert earlier.std(dim=0).gt(0).any() and torch.isfinite(earlier).all()


@pytest.mark.parametrize(("name", "width"), MAXIMA.items())
def test_with_maxima_there_are_as_many_features_as_the_maps_have_channels_besides(name, width):
    made, images, features = joined(name, "stages_max")
    with torch.inference_mode():
        maps = made.interface.stage_maps(images)
    means = sum(made.interface.stage_widths)
    assert can_join_stages(name) and features.shape == (2, means + width) == (2, made.head[0].in_features)
    torch.testing.assert_close(features[:, means:], torch.cat([each.amax((2, 3)) for each in maps], dim=1))


def test_the_earlier_features_are_the_means_of_their_feature_maps():
    made = make_classifier(Architecture("resnet18", "linear", None, 0.0, 3, "stages")).eval()
    images, kept = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), []
    for layer in (made.backbone.layer2, made.backbone.layer3):
        layer.register_forward_hook(lambda layer, inputs, output: kept.append(output.mean((2, 3))))
    with torch.inference_mode():
        torch.testing.assert_close(made.features(images)[:, :384], torch.cat(kept, dim=1))


@pytest.mark.parametrize("name", ["test_vit", "no_such_network"])
def test_a_backbone_without_stages_cannot_join_them(name):
    assert not can_join_stages(name) and can_join_stages("resnet18")
    if name == "test_vit":
        with pytest.raises(UsageError, match=r"model\.features: test_vit has no feature maps of several sizes"):
            make_classifier(Architecture(name, "linear", None, 0.0, 3, "stages"))


def test_a_size_is_tried_with_all_that_the_head_takes():
    made = make_on_meta(Architecture("resnet18", "linear", None, 0.0, 3, "stages"))
    demand_image_size(made, 40, "resnet18")
    made.interface.stage_widths = (1, 2)
    with pytest.raises(UsageError, match="no pooled features"):
        demand_image_size(made, 40, "resnet18")
