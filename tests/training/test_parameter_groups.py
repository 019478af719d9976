import pytest
from torch import nn

from fieldguide.training.optimizer import SHARE, make_optimizer
from fieldguide.training.parameter_groups import Rates, parameter_groups
from fieldguide.training.schedule import Cosine
from tests.training.stages import phase

STAGES = [["backbone.stem.weight", "backbone.stem.bias"], ["backbone.last.weight", "backbone.last.bias"]]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.Linear(3, 3), "last": nn.Linear(3, 3), "norm": nn.BatchNorm1d(3)})
        self.head = nn.ModuleDict({"linear": nn.Linear(3, 2)})


def shares(model, stages, rates):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group.share, group.decays)
        for group in parameter_groups(model, stages, rates)
        for parameter in group.parameters
    }


def test_each_stage_learns_at_a_share_of_the_one_after_and_the_head_at_its_own():
    found = shares(Network(), STAGES, Rates(layer_decay=0.5, head_factor=4))
    assert found["backbone.stem.weight"] == (0.5, True) and found["backbone.last.bias"] == (1, True)
    assert found["backbone.norm.weight"] == (1, True), "what is in no stage learns as the last one"
    assert found["head.linear.weight"] == (4, True) and len(found) == 8


def test_weight_decay_can_leave_out_vectors():
    found = shares(Network(), STAGES, Rates(decays_all=False))
    assert {name for name, (_, decays) in found.items() if decays} == {
        "backbone.stem.weight", "backbone.last.weight", "head.linear.weight",
    }  # fmt: skip


def test_frozen_parameters_are_in_no_group():
    model = Network()
    model.backbone.requires_grad_(False)
    assert set(shares(model, STAGES, Rates(0.5))) == {"head.linear.weight", "head.linear.bias"}


def test_without_differences_there_is_one_group():
    assert len(parameter_groups(Network(), (), Rates())) == 1


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_the_optimiser_and_the_cosine_keep_each_groups_share(kind):
    model = Network()
    groups = parameter_groups(model, STAGES, Rates(0.5, 4, decays_all=False))
    optimizer = make_optimizer(model, 0.1, kind=kind, momentum=0.9, weight_decay=0.05, groups=groups)
    assert {group["lr"] / group[SHARE] for group in optimizer.param_groups} == {0.1}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05, 0.0}
    schedule = Cosine(optimizer, phase("x", 2), 10, 0.0)
    schedule.before_step(10)  # the middle: half of the peak
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.05 * group[SHARE] for group in optimizer.param_groups]
    )
