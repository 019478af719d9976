import contextlib
import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from fieldguide.training.optimizer import assert_complete, make_optimizer
from fieldguide.training.step import StepSettings, train_step, training_mode

IMAGES = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def settings(**changes):
    return StepSettings(
        **{"label_smoothing": 0.0, "gradient_clip_norm": None, "precision": contextlib.nullcontext} | changes
    )


def test_a_step_is_forward_backward_update():
    ours, theirs = network(), network()
    loss, correct = train_step(ours, torch.optim.SGD(ours.parameters(), lr=0.1), IMAGES, LABELS, settings())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    logits = theirs(IMAGES)
    expected = functional.cross_entropy(logits, LABELS)
    expected.backward()
    optimizer.step()
    assert torch.equal(loss, expected.detach()) and int(correct) == int((logits.argmax(1) == LABELS).sum())
    for mine, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, right)


def test_label_smoothing_reaches_the_loss():
    plain, _ = train_step(network(), torch.optim.SGD(network().parameters(), lr=0), IMAGES, LABELS, settings())
    smooth, _ = train_step(
        network(), torch.optim.SGD(network().parameters(), lr=0), IMAGES, LABELS, settings(label_smoothing=0.2)
    )
    logits = network()(IMAGES)
    expected = functional.cross_entropy(logits, LABELS, label_smoothing=0.2).detach()
    assert float(smooth) == pytest.approx(float(expected))
    assert float(smooth) != pytest.approx(float(plain))


def test_gradients_are_scaled_down_to_the_norm():
    model = network()
    before = copy.deepcopy(model)
    train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), IMAGES, LABELS, settings(gradient_clip_norm=0.01))
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_trainable_parameter_is_in_the_optimizer(kind):
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = make_optimizer(model, 0.01, kind=kind, momentum=0.9, weight_decay=1e-4)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()} - {id(model[0].weight)}
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.01 and group["weight_decay"] == 1e-4
    assert type(optimizer).__name__.lower() == kind
    assert group.get("momentum", 0.9) == 0.9


def test_an_optimizer_that_misses_a_parameter_is_noticed():
    model = network()
    incomplete = torch.optim.SGD(list(model.parameters())[1:], lr=0.1)
    with pytest.raises(AssertionError, match="misses parameters"):
        assert_complete(model, incomplete)


def test_frozen_parts_keep_their_batch_normalisation_statistics_and_drop_nothing():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)),
    )
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_mode(model)
    assert model.training and model[1][3].training and not model[0][2].training
    train_step(model, make_optimizer(model, 0.1, kind="sgd", momentum=0, weight_decay=0), IMAGES, LABELS, settings())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("0."))
    assert not torch.equal(before["1.2.running_mean"], after["1.2.running_mean"])
