"""Class-activation maps against their definition."""

import numpy as np
import pytest
import torch

from fieldguide.model.activation import NoMap, activation_maps, why_no_map
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import Classifier, make_classifier

SIZE = 64


def classifier(
    backbone: str = "resnet18", head: str = "linear", width: int | None = None, features: str = "last"
) -> Classifier:
    torch.manual_seed(0)
    return make_classifier(Architecture(backbone, head, width, 0.3, 5, features)).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("features", ["last", "stages"])
def test_with_a_linear_head_the_map_is_the_weighted_sum_of_the_channels_by_the_heads_own_weights(features: str):
    made, classes = classifier(features=features), np.array([3, 1])
    maps = activation_maps(made, images(), classes)
    with torch.no_grad():
        last_map = made.backbone.forward_features(images())
        weights = made.head[-1].weight[classes, -512:]
        sums = torch.einsum("nc,nchw->nhw", weights, last_map).clamp(min=0)
        wanted = torch.nn.functional.interpolate(sums[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
        wanted = wanted / wanted.amax(dim=(1, 2), keepdim=True)
    assert np.allclose(maps, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(("head", "width"), [("linear", None), ("bottleneck", 16), ("mlp", 16)])
def test_every_head_gives_maps_between_0_and_1(head: str, width: int | None):
    maps = activation_maps(classifier(head=head, width=width), images(), np.array([0, 4]))
    assert maps.shape == (2, SIZE, SIZE) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize("features", ["last", "stages"])
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "convnext_atto"])
def test_other_networks_give_maps_too(backbone: str, features: str):
    maps = activation_maps(classifier(backbone, features=features), images(), np.array([0, 1]))
    assert maps is not None and maps.shape == (2, SIZE, SIZE)


def test_channels_last_networks_give_maps_of_the_right_place():
    made = make_classifier(Architecture("mambaout_femto", "linear", None, 0.0, 3)).eval()
    maps = activation_maps(made, images(1), np.array([1]))
    assert maps is not None and maps.shape == (1, SIZE, SIZE)


def test_a_vision_transformer_has_tokens_and_no_map():
    made = make_classifier(Architecture("test_vit", "linear", None, 0.0, 3)).eval()
    assert activation_maps(made, torch.randn(1, 3, 160, 160), np.array([1])) is None
    assert why_no_map(made, 160) is NoMap.TOKENS


def test_a_last_feature_map_of_1_x_1_would_be_one_flat_colour_and_is_no_map():
    made = classifier()
    assert activation_maps(made, images()[:, :, :32, :32], np.array([0, 1])) is None
    assert why_no_map(made, 32) is NoMap.ONE_CELL and why_no_map(made, SIZE) is None


def test_the_classifier_is_left_as_it_was():
    made = classifier()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    activation_maps(made, images(), np.array([0, 1]))
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in made.parameters())
    assert not made.training


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros():
    made = classifier()
    with torch.no_grad():
        made.head[-1].weight.fill_(-1.0)
    assert activation_maps(made, images(), np.array([0, 1])).max() == 0
