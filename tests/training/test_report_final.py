"""The preset `report-final` through the real loop, with validation losses that are given."""

import torch
from torch import nn

from fieldguide.assemble import make_plan, resolved
from fieldguide.recipe.load import read_recipe
from fieldguide.training.loop import train
from fieldguide.training.observers import Observers
from tests.training.test_loop import Diary, network, tools

SHRUNK = ("training.phases.0.max_epochs=2", "training.phases.1.max_epochs=2", "training.rounds.max_epochs=2")


def trained(losses):
    model, rates = network(), []
    diary = Diary(model)
    plan = make_plan(resolved(read_recipe("report-final", SHRUNK)))
    asked: list[tuple[str, int]] = []
    state = train(model, plan, tools(losses, rates=rates, asked=asked), Observers([diary]), lambda: None)
    return state, diary, rates, asked


def test_rounds_go_on_to_the_seventh_and_the_eighth_that_brings_nothing_is_the_last():
    falling = [1 - 0.01 * i for i in range(2 + 2 + 7 * 2)]
    state, diary, rates, asked = trained([*falling, 2.0, 2.0])
    assert [stage.name for stage in diary.stages] == ["standard", "strong", *[f"round {n}" for n in range(1, 9)]]
    assert rates == [0.001, 0.001, *[0.001 / 2**n for n in range(1, 9)]]
    assert [ended.improved for ended in diary.ended] == [True] * 9 + [False]
    assert {name for name, epoch in asked if epoch > 2} == {"strong"}
    assert state.best.epoch.epoch == 2 + 2 + 7 * 2 and len(state.history) == 20


def test_the_model_at_the_end_is_the_seventh_rounds_and_not_the_last_ones():
    state, diary, _, _ = trained([*[1 - 0.01 * i for i in range(18)], 2.0, 2.0])
    assert isinstance(diary.model, nn.Module)
    own = diary.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.best.weights.items())


def test_a_first_round_that_brings_nothing_ends_the_training():
    state, diary, rates, _ = trained([1.0, 0.9, 0.8, 0.7, 0.9, 0.9])
    assert [stage.name for stage in diary.stages] == ["standard", "strong", "round 1"] and rates[-1] == 0.0005
    assert state.best.epoch.epoch == 4
