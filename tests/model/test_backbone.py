"""timm behind one door: names, features, preprocessing, and a Hub that may be out of reach."""

import pytest
import torch
from huggingface_hub import constants

from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones


@pytest.mark.parametrize(
    "name", ["resnet34.tv_in1k", "resnet50.a1_in1k", "resnetrs101.tf_in1k", "resnet18", "timm/resnet18"]
)
def test_a_network_of_timm_is_no_problem(name):
    assert backbones.problem_with_backbone(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnt34", "timm has no network 'resnt34' (did you mean"),
        ("resnet34.tv_in1", "timm has resnet34, but no weights 'tv_in1'; it has"),
        ("qqqqqqqq", "timm has no network 'qqqqqqqq'"),
        ("auto", "auto is not chosen here; name a backbone"),
        ("", "timm has no network ''"),
        ("../../etc/passwd", "timm has no network"),
        ("hf-hub:somebody/something", "timm has no network"),
    ],
)
def test_a_name_that_timm_does_not_know_is_told_with_near_ones(name, words):
    problem = backbones.problem_with_backbone(name)
    assert problem.startswith("model.backbone: ") and words in problem
    with pytest.raises(UsageError):
        backbones.make_backbone(name)


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "densenet121"]
)
def test_any_networks_features_are_pooled_and_as_wide_as_it_is_said(name):
    with torch.device("meta"):
        network = backbones.make_backbone(name).eval()
    out = network(torch.empty(2, 3, 224, 224, device="meta"))
    assert out.shape == (2, backbones.num_features(network))


def test_the_backbones_own_preprocessing_is_read():
    assert backbones.pretrained_preprocessing("resnet50.a1_in1k") == {
        "image_size_px": 224,
        "crop_share": 0.95,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    assert backbones.pretrained_preprocessing("resnet34.tv_in1k")["interpolation"] == "bilinear"


@pytest.mark.parametrize(
    ("name", "pretrained_on"),
    [
        ("resnet34.tv_in1k", "imagenet-1k"),
        ("resnet50.a1_in1k", "imagenet-1k"),
        ("resnetrs101.tf_in1k", "imagenet-1k"),
        ("resnet50", "imagenet-1k"),
        ("seresnextaa101d_32x8d.sw_in12k_ft_in1k_288", "sw_in12k_ft_in1k_288"),
        ("resnet18.fb_swsl_ig1b_ft_in1k", "fb_swsl_ig1b_ft_in1k"),
        ("regnety_160.swag_ft_in1k", "swag_ft_in1k"),  # 3.6 billion photos of Instagram
        ("regnety_320.seer_ft_in1k", "seer_ft_in1k"),
        ("eva02_large_patch14_448.mim_m38m_ft_in1k", "mim_m38m_ft_in1k"),
    ],
)
def test_what_weights_were_trained_on_is_told_by_their_tag(name, pretrained_on):
    assert backbones.pretrained_on(name) == pretrained_on


def test_stages_go_from_the_stem_to_the_last_and_hold_every_parameter_once():
    network = backbones.make_backbone("resnet18")
    stages = backbones.stages(network)
    assert [stage[0].split(".")[0] for stage in stages] == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert sorted(name for stage in stages for name in stage) == sorted(name for name, _ in network.named_parameters())


def test_a_hub_out_of_reach_ends_in_words_on_what_to_pass_and_never_in_random_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        backbones.hub_weights("resnet18.tv_in1k")
    text = str(caught.value)
    assert text.startswith("model.weights: the Hub's weights of resnet18.tv_in1k cannot be had (HF_HUB_OFFLINE is set")
    assert "--weights FILE" in text and "--weights RUN" in text and "--weights none" in text


def test_a_hub_that_does_not_answer_ends_in_the_same_words(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(backbones, "_in_hub_cache", lambda source: False)
    with pytest.raises(UsageError, match=r"cannot be had \(no answer from the Hub: .*; pass --weights FILE"):
        backbones.hub_weights("resnet18.tv_in1k")


def test_an_error_on_the_way_from_the_hub_ends_in_the_same_words(monkeypatch):
    def break_off(*args, **keywords):
        raise RuntimeError

    monkeypatch.setattr(backbones, "_in_hub_cache", lambda source: True)
    monkeypatch.setattr(backbones.timm, "create_model", break_off)
    with pytest.raises(UsageError, match=r"cannot be had \(RuntimeError\); pass --weights FILE"):
        backbones.hub_weights("resnet18.tv_in1k")


def test_a_network_without_pretrained_weights_is_told_before_anything_is_asked(monkeypatch):
    monkeypatch.setattr(backbones, "_config", lambda name: {})
    with pytest.raises(UsageError, match="timm has no pretrained weights for resnet10t; pass --weights FILE"):
        backbones.hub_weights("resnet10t")
