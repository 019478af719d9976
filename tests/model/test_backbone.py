"""timm behind one door: names, features, preprocessing, and a Hub that may be out of reach."""

import pytest
import timm
import torch
from huggingface_hub import constants

from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model import pretrained
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import demand_image_size, make_classifier, make_on_meta, set_trainable


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
        ("auto", "auto is not available here; name a backbone"),
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
        made = backbones.make_backbone(name)
    out = made.network.eval()(torch.empty(2, 3, 224, 224, device="meta"))
    assert out.shape == (2, made.num_features)


@pytest.mark.parametrize(
    ("name", "size", "num_stages"),
    [
        ("resnet10t", 64, 5),
        ("test_resnet", 64, 5),
        ("resnext26ts", 64, 5),
        ("test_efficientnet", 64, 6),
        ("mobilenetv4_conv_small_035", 64, 7),
        ("test_convnext", 64, 5),
        ("test_vit", 64, 7),
        ("eva02_tiny_patch14_224", 70, 13),
        ("tiny_vit_5m_224", 64, 5),
        pytest.param("vit_small_patch14_dinov2", 70, 13, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", 64, 5, marks=pytest.mark.slow),
        pytest.param("caformer_s18", 64, 4, marks=pytest.mark.slow),
    ],
)
def test_every_family_builds_and_learns_at_a_size_that_it_was_not_made_for(name, size, num_stages):
    torch.manual_seed(0)
    model = make_classifier(Architecture(name, "linear", None, 0.0, 2))
    images, labels = torch.randn(2, 3, size, size), torch.tensor([0, 1])
    assert model.eval().backbone(images).shape == (2, model.interface.num_features)
    stages = model.interface.stages()
    own = [parameter_name for parameter_name, _ in model.backbone.named_parameters()]
    assert len(stages) == num_stages and sorted(name for stage in stages for name in stage) == sorted(own)
    set_trainable(model.train(), "last_stage")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    last = {f"backbone.{name}" for name in stages[-1]} | {"head.0.weight", "head.0.bias"}
    assert moved <= last and any(name.startswith("backbone.") for name in moved) and "head.0.weight" in moved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_small_patch14_dinov2", (126, 224)),  # pretrained at 518 px
        ("eva02_tiny_patch14_336", (224,)),
        ("vit_base_patch16_siglip_512", (160, 224)),
        ("deit_tiny_patch16_224", (128, 288)),
        ("swinv2_tiny_window8_256", (128, 224)),
    ],
)
def test_transformers_take_other_sizes_than_that_of_their_pretraining(name, sizes):
    model = make_on_meta(Architecture(name, "linear", None, 0.0, 2))
    for size in sizes:
        demand_image_size(model, size, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("eva02_tiny_patch14_224", 128, "does not take 128 x 128 images .*; try 126 or 140$"),
        ("vit_tiny_patch16_224", 8, "; try 16$"),
        ("levit_128s", 128, "; try 224$"),
        ("dla46x_c", 112, "; try 96 or 128$"),
    ],
)
def test_a_size_that_the_network_does_not_take_is_refused_with_ones_that_it_takes(name, size, words):
    model = make_on_meta(Architecture(name, "linear", None, 0.0, 2))
    with pytest.raises(UsageError, match=words):
        demand_image_size(model, size, name)
    for near in model.interface.sizes_near(size):
        demand_image_size(model, near, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "words"), [("levit_128s", 100, "try 96 or 128"), ("halonet_h1", 192, "try 256")]
)
def test_a_size_that_a_network_of_one_size_cannot_be_built_for_is_refused_with_ones_that_it_can(name, size, words):
    model = make_on_meta(Architecture(name, "linear", None, 0.0, 2, image_size_px=size))
    with pytest.raises(
        UsageError, match=f"data.image_size_px: {name} does not take {size} x {size} images .*; {words}"
    ):
        demand_image_size(model, size, name)


def test_a_network_of_one_size_is_built_for_the_size_of_the_recipe_and_takes_no_other():
    model = make_on_meta(Architecture("levit_128s", "linear", None, 0.0, 2, image_size_px=96))
    demand_image_size(model, 96, "levit_128s")
    with pytest.raises(UsageError, match=r"data\.test_size_px: levit_128s does not take 128 x 128 .*; try 96$"):
        demand_image_size(model, 128, "levit_128s", "data.test_size_px")


@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224"])
def test_taking_any_size_changes_no_weight_and_no_feature_at_the_size_of_the_pretraining(name):
    side = backbones.pretrained_preprocessing(name)["image_size_px"]
    torch.manual_seed(0)
    ours = backbones.make_backbone(name).network.eval()
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


def test_tokens_are_pooled_as_the_network_was_pretrained():
    """DINOv2 by its class token, SigLIP by attention, EVA02 by the mean of its patches."""
    for name, pooling in [
        ("vit_small_patch14_dinov2", "token"),
        ("vit_base_patch16_siglip_224", "map"),
        ("eva02_tiny_patch14_224", "avg"),
    ]:
        with torch.device("meta"):
            assert backbones.make_backbone(name).network.global_pool == pooling


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
    made = backbones.make_backbone("resnet18")
    network, stages = made.network, made.stages()
    assert [stage[0].split(".")[0] for stage in stages] == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert sorted(name for stage in stages for name in stage) == sorted(name for name, _ in network.named_parameters())


def test_a_hub_out_of_reach_ends_in_words_on_what_to_pass_and_never_in_random_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        pretrained.hub_weights("resnet18.tv_in1k")
    text = str(caught.value)
    assert text.startswith("model.weights: no weights of resnet18.tv_in1k from the Hub (HF_HUB_OFFLINE is set")
    assert "pass weights FILE" in text and "weights RUN" in text and "weights none" in text


def test_a_hub_that_does_not_answer_ends_in_the_same_words(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(pretrained, "_in_hub_cache", lambda source: False)
    with pytest.raises(UsageError, match=r"from the Hub \(no answer from the Hub: .*; pass weights FILE"):
        pretrained.hub_weights("resnet18.tv_in1k")


def test_an_error_on_the_way_from_the_hub_ends_in_the_same_words(monkeypatch):
    def break_off(*args, **keywords):
        raise RuntimeError

    monkeypatch.setattr(pretrained, "_in_hub_cache", lambda source: True)
    monkeypatch.setattr(pretrained.timm, "create_model", break_off)
    with pytest.raises(UsageError, match=r"from the Hub \(RuntimeError\); pass weights FILE"):
        pretrained.hub_weights("resnet18.tv_in1k")


def test_a_network_without_pretrained_weights_is_told_before_anything_is_asked(monkeypatch):
    monkeypatch.setattr(pretrained, "config_of", lambda name: {})
    with pytest.raises(UsageError, match="timm has no pretrained weights for resnet10t; pass weights FILE"):
        pretrained.hub_weights("resnet10t")


def test_the_licence_of_weights_is_what_timm_says():
    assert pretrained.licence("resnet18.fb_swsl_ig1b_ft_in1k") == "cc-by-nc-4.0"
    assert pretrained.licence("resnet34.tv_in1k") == "bsd-3-clause" and pretrained.licence("resnet10t") == "apache-2.0"
    assert pretrained.licence("resnet50.bamboo") is None
