"""fp16's gradient scaling, by torch's CPU support for it."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from fieldguide.training.checkpoint import state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Callback, Observers
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.plan import Plan
from fieldguide.training.scaling import GradientScaling
from fieldguide.training.state import State
from fieldguide.training.step import MicroBatch, StepSettings, train_step
from tests.training.stages import phase, rounds
from tests.training.test_loop import falling, network, tools

IMAGES = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def settings(scaling, **more):
    return StepSettings(0.0, None, contextlib.nullcontext, scaling=scaling, **more)


@pytest.mark.parametrize("more", [{}, {"micro_batch": MicroBatch(2)}], ids=["whole", "in pieces"])
@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("fused", [None, True])
def test_a_scaled_step_is_the_plain_one(more, clip, fused):
    ours, theirs = network(), network()
    for model, scaling in ((ours, GradientScaling("cpu")), (theirs, None)):
        optimizer = make_optimizer(model, 0.1, kind="adamw", momentum=0, weight_decay=0, fused=fused)
        step = dataclasses.replace(settings(scaling, **more), gradient_clip_norm=clip)
        for _ in range(3):
            train_step(model, optimizer, IMAGES, LABELS, step)
    assert not torch.equal(ours[1].weight, network()[1].weight)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)


def overflowing(model):
    """Makes the next backward pass overflow."""
    hook = model[3].weight.register_hook(lambda gradient: gradient * float("inf"))
    return hook.remove


def test_a_step_whose_gradients_overflow_changes_nothing_halves_the_scale_and_is_counted():
    model, scaling = network(), GradientScaling("cpu")
    optimizer = make_optimizer(model, 0.1, kind="sgd", momentum=0, weight_decay=0)
    train_step(model, optimizer, IMAGES, LABELS, settings(scaling))
    scale, before = scaling.memory()["scale"], [value.clone() for value in model.parameters()]
    undo = overflowing(model)
    train_step(model, optimizer, IMAGES, LABELS, settings(scaling))
    undo()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert scaling.memory() == {"scale": scale / 2, "steps": 0}
    train_step(model, optimizer, IMAGES, LABELS, settings(scaling))
    assert (scaling.take_skipped(), scaling.take_skipped()) == (1, 0)


class Diary(Callback):
    def __init__(self):
        self.told = []

    def skipped(self, epoch, steps):
        self.told.append((epoch, steps))


PLAN = Plan((phase("standard", 3),), rounds(max_rounds=0), None, "validation_loss")


def of_fp16(overflows=(), **options):
    """Tools whose gradients overflow in these (epoch, step)."""
    made = tools(falling(9), **options)
    now = []

    def seed(epoch, step):
        now[:] = [(epoch, step)]
        made.seed_step(epoch, step)

    def optimizer(model, rate):
        for weight in (model[3].weight,):
            weight.register_hook(lambda gradient: gradient * float("inf") if now[0] in overflows else gradient)
        return made.make_optimizer(model, rate)

    return dataclasses.replace(made, seed_step=seed, make_optimizer=optimizer, step=settings(GradientScaling("cpu")))


def test_skipped_steps_are_told_by_epoch_and_stay_in_the_state():
    diary, model = Diary(), network()
    state = train(model, PLAN, of_fp16({(1, 0), (3, 1), (3, 2)}), Observers([diary]), lambda: None)
    assert state.skipped == [(1, 1), (3, 2)] and sum(count for _, count in diary.told) == 3
    assert state.scaling["scale"] == 65536 / 8
    assert train(network(), PLAN, of_fp16(), Observers([Diary()]), lambda: None).skipped == []


def test_a_resumed_training_keeps_the_scale_and_the_count_and_ends_in_the_same_bits(tmp_path):
    overflows = {(1, 1), (2, 2)}
    whole = network()
    whole_state = train(whole, PLAN, of_fp16(overflows), Observers([]), lambda: None)

    class Kill(Callback):
        def __init__(self):
            self.steps = 0

        def step_done(self, images):
            self.steps += 1
            if self.steps == 5:  # within the second epoch
                raise KeyboardInterrupt

    first = Checkpoints(tmp_path / "checkpoint", every_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        train(network(), PLAN, of_fp16(overflows), Observers([first, Kill()]), lambda: None)
    model, scaled = network(), of_fp16(overflows)
    snapshot = Checkpoints(tmp_path / "checkpoint", 0).newest(model).snapshot
    state = state_of(snapshot.plain["state"], PLAN, model.state_dict())
    assert (state.scaling["scale"], state.skipped) == (32768, [(1, 1)])
    ended = train(model, PLAN, scaled, Observers([]), lambda: None, Saved(state, snapshot))
    assert ended.skipped == whole_state.skipped == [(1, 1), (2, 1)] and ended.scaling == whole_state.scaling
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


def test_a_checkpoint_of_another_precision_has_no_scale():
    assert State().scaling is None and isinstance(network(), nn.Module)
    assert "scaling" not in capture_plain(State())


def capture_plain(state):
    from fieldguide.training.checkpoint import plain_state

    return plain_state(state)
