"""What stands between pooled features and classes: the layers, in the report's order."""

import pytest
import torch
from torch import nn

from fieldguide.model.classifier import Classifier, describe_head
from fieldguide.model.heads import make_head
from tests.model.own_backbone import OwnBackbone


def kinds(head):
    return [type(layer) for layer in head]


def test_the_bottleneck_is_the_reports_layer_by_layer():
    head = make_head("bottleneck", 2_048, 100, 1_024, 0.3)
    assert kinds(head) == [nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert (head[0].p, head[4].p) == (0.3, 0.3)
    assert (head[1].in_features, head[1].out_features) == (2_048, 1_024)
    assert (head[3].num_features, head[5].in_features, head[5].out_features) == (1_024, 1_024, 100)


def test_the_mlp_is_the_same_without_batch_normalisation():
    head = make_head("mlp", 512, 100, 512, 0.3)
    assert kinds(head) == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert sum(parameter.numel() for parameter in head.parameters()) == 512 * 512 + 512 + 512 * 100 + 100


def test_a_linear_head_has_dropout_only_where_it_is_asked_for():
    assert kinds(make_head("linear", 8, 3, None, 0.0)) == [nn.Linear]
    assert kinds(make_head("linear", 8, 3, None, 0.2)) == [nn.Dropout, nn.Linear]


@pytest.mark.parametrize("kind", ["linear", "bottleneck", "mlp"])
def test_each_head_goes_from_features_to_classes_also_for_one_photo(kind):
    head = make_head(kind, 8, 3, None if kind == "linear" else 5, 0.3).eval()
    for photos in (1, 4):
        assert head(torch.zeros(photos, 8)).shape == (photos, 3)


def test_a_width_and_a_rate_are_used():
    head = make_head("bottleneck", 8, 3, 7, 0.1)
    assert head[1].out_features == 7 and head[0].p == 0.1


def test_a_head_is_described_with_shapes_and_parameters():
    head = make_head("bottleneck", 8, 3, 4, 0.3)
    assert describe_head(Classifier(OwnBackbone(nn.Identity(), 8), head), 8) == [
        ("dropout 0.3", "(batch, 8)", 0),
        ("linear 8 to 4", "(batch, 4)", 36),
        ("ReLU", "(batch, 4)", 0),
        ("batch normalisation", "(batch, 4)", 8),
        ("dropout 0.3", "(batch, 4)", 0),
        ("linear 4 to 3", "(batch, 3)", 15),
    ]
