import copy

import pytest
import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.batch_norm import (
    FoldedBatchNorm,
    FrozenBatchNorm,
    as_built,
    load_as_built,
    set_batch_norm,
    unfold,
)
from fieldguide.model.classifier import Classifier, make_classifier
from fieldguide.training.step import training_mode
from tests.model.own_backbone import OwnBackbone

SIZE = 32
IMAGES = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def network(backbone="test_resnet", head="linear", features="last"):
    """With statistics, scales and shifts that are not those of a new network."""
    torch.manual_seed(0)
    made = make_classifier(Architecture(backbone, head, 8 if head == "bottleneck" else None, 0.0, 5, features))
    for layer in made.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    return made


def answers(model):
    with torch.no_grad():
        return model(IMAGES)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet10t", "test_byobnet", "resnet26d"])
@pytest.mark.parametrize("features", ["last", "stages"])
@pytest.mark.parametrize("mode", ["frozen", "folded"])
def test_the_network_computes_in_training_what_it_computed_in_evaluation(backbone, mode, features):
    model = network(backbone, features=features)
    expected = answers(model.eval())
    set_batch_norm(model, mode, SIZE)
    training_mode(model)
    assert torch.allclose(answers(model), expected, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.backbone.modules())


def test_folding_leaves_no_normalisation_to_compute_in_a_resnet():
    model = network("resnet26d")
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in model.backbone.modules())
    set_batch_norm(model, "folded", SIZE)
    assert sum(isinstance(layer, FoldedBatchNorm) for layer in model.backbone.modules()) == norms > 20
    assert not any(isinstance(layer, FrozenBatchNorm) for layer in model.backbone.modules())


@pytest.mark.parametrize("mode", ["frozen", "folded"])
def test_statistics_stay_while_the_rest_learns(mode):
    model = network()
    before = as_built(model)
    set_batch_norm(model, mode, SIZE)
    training_mode(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(IMAGES).square().sum().backward()
    optimizer.step()
    after = as_built(model)
    assert list(after) == list(before)
    for name, value in after.items():
        is_statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        is_scale = value.ndim == 1 and name.endswith("weight")  # folded, the filters learn in its place
        assert torch.equal(value, before[name]) == (is_statistic or (mode == "folded" and is_scale)), name


@pytest.mark.parametrize("mode", ["train", "frozen", "folded"])
def test_what_was_learned_answers_the_same_in_the_network_as_it_was_built(mode):
    model = network()
    set_batch_norm(model, mode, SIZE)
    training_mode(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(IMAGES).square().sum().backward()
    optimizer.step()
    expected = answers(model.eval())
    fresh = network()
    fresh.load_state_dict(as_built(model))
    assert torch.allclose(answers(fresh.eval()), expected, rtol=1e-3, atol=1e-4)
    unfold(model)
    assert torch.allclose(answers(model.eval()), expected, rtol=1e-3, atol=1e-4)
    assert list(model.state_dict()) == list(fresh.state_dict())


def test_filters_are_merged_as_torch_merges_them():
    model = network()
    reference = copy.deepcopy(model)
    conv, norm = reference.backbone.layer1[0].conv1, reference.backbone.layer1[0].bn1
    fused = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
    set_batch_norm(model, "folded", SIZE)
    assert torch.allclose(model.backbone.layer1[0].conv1.weight, fused.weight, atol=1e-6)
    assert torch.allclose(model.backbone.layer1[0].conv1.bias, fused.bias, atol=1e-6)


def test_folding_and_unfolding_again_and_again_keeps_the_weights():
    model = network()
    before = as_built(model)
    for _ in range(20):
        set_batch_norm(model, "folded", SIZE)
        unfold(model)
    for name, value in as_built(model).items():
        assert torch.allclose(value, before[name], rtol=1e-5, atol=1e-6), name


def test_a_channel_that_is_multiplied_by_nothing_learns_and_comes_back():
    model = network()
    with torch.no_grad():
        model.backbone.layer1[0].bn1.weight[3] = 0
    set_batch_norm(model, "folded", SIZE)
    with torch.no_grad():
        model.backbone.layer1[0].conv1.weight[3] += 0.5
    expected = answers(model.eval())
    unfold(model)
    assert torch.allclose(answers(model.eval()), expected, rtol=1e-3, atol=1e-4)
    assert torch.isfinite(model.backbone.layer1[0].conv1.weight).all()


def test_best_weights_load_into_a_network_that_is_folded():
    model = network()
    weights = as_built(model)
    set_batch_norm(model, "folded", SIZE)
    load_as_built(model, weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_the_batch_normalisation_of_the_head_goes_on_training():
    model = network(head="bottleneck")
    set_batch_norm(model, "folded", SIZE)
    training_mode(model)
    head = next(layer for layer in model.head if isinstance(layer, nn.BatchNorm1d))
    before = head.running_mean.clone()
    answers(model)
    assert head.training and not torch.equal(head.running_mean, before)


def test_a_network_whose_normalisation_serves_two_inputs_is_frozen_where_it_cannot_be_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images):
            return self.norm(self.conv(self.norm(self.conv(images)))).mean((2, 3))

    model = Classifier(OwnBackbone(Twice()), nn.Linear(3, 2))
    expected = answers(model.eval())
    set_batch_norm(model, "folded", SIZE)
    assert isinstance(model.backbone.norm, FrozenBatchNorm)
    assert torch.allclose(answers(model), expected, atol=1e-5)


def test_a_network_that_uses_a_convolution_beside_its_normalisation_is_refused():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_var.fill_(9)

        def forward(self, images):
            made = self.conv(images)
            return (self.norm(made) + made).mean((2, 3))

    model = Classifier(OwnBackbone(Beside()), nn.Linear(3, 2))
    before = as_built(model)
    with pytest.raises(UsageError, match="batch_norm cannot be folded in this backbone"):
        set_batch_norm(model, "folded", SIZE)
    assert isinstance(model.backbone.norm, nn.BatchNorm2d)
    assert all(torch.allclose(value, before[name], atol=1e-6) for name, value in as_built(model).items())
