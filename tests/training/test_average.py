"""The moving average is the one that a loop by hand gives, and the training itself knows nothing of it."""

import dataclasses

import pytest
import torch
from torch import nn

from fieldguide.model.batch_norm import as_built, set_batch_norm
from fieldguide.model.classifier import set_trainable
from fieldguide.training.average import Average
from fieldguide.training.checkpoint import best_weights_of, capture, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Observers
from fieldguide.training.state import State
from fieldguide.training.step import training_mode
from tests.model import test_batch_norm
from tests.training.test_checkpoint import made, outcome, stopping_after, under_way
from tests.training.test_loop import PLAN, Diary, network, run

AVERAGED = dataclasses.replace(PLAN, ema_decay=0.9)


def a_step(model, optimizer, seed):
    draw = torch.Generator().manual_seed(seed)
    training_mode(model)
    optimizer.zero_grad()
    images, labels = torch.randn(4, 3, 32, 32, generator=draw), torch.randint(5, (4,), generator=draw)
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def copied(values):
    return {name: value.clone() for name, value in values.items()}


@pytest.mark.parametrize("mode", ["train", "frozen", "folded"])
@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_it_is_the_average_that_a_loop_by_hand_gives(mode, decay):
    model = test_batch_norm.network()
    set_batch_norm(model, mode, 32)
    average, expected = Average(model, decay), {name: v.double() for name, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(12):
        a_step(model, optimizer, step)
        average.take_step()
        now = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = now * expected[name] + (1 - now) * value.double()
    raw = copied(model.state_dict())
    with average.loaded():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
            else:
                assert torch.equal(value, raw[name])  # a counter is no average
    assert any(not torch.equal(average.weights[name], raw[name]) for name in average.weights)
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())


def test_the_statistics_of_batch_normalisation_are_averaged_too():
    model = test_batch_norm.network()
    average, before = Average(model, 0.99), copied(model.state_dict())
    a_step(model, torch.optim.SGD(model.parameters(), lr=0.05), 0)
    average.take_step()
    name = next(name for name in before if name.endswith("running_mean"))
    expected = 0.1 * before[name] + 0.9 * model.state_dict()[name]
    torch.testing.assert_close(average.weights[name], expected)
    assert not torch.equal(before[name], model.state_dict()[name])


def test_what_does_not_learn_is_not_held_and_frozen_statistics_stay_to_the_bit():
    model = test_batch_norm.network()
    set_trainable(model, "head")
    average, before = Average(model, 0.5), copied(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(3):
        a_step(model, optimizer, step)
        average.take_step()
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    buffers = {name for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    assert set(average.weights) == learns | buffers
    assert all(torch.equal(average.weights[name], before[name]) for name in buffers)


def test_folded_it_is_as_built_what_the_average_of_unfolded_networks_is():
    model = test_batch_norm.network()
    set_batch_norm(model, "folded", 32)
    average, expected = Average(model, 0.1), as_built(model)  # 0.1 is where the warm-up begins: the same at each step
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(4):
        a_step(model, optimizer, step)
        average.take_step()
        now = as_built(model)
        expected = {name: 0.1 * value + 0.9 * now[name] for name, value in expected.items()}
    with average.loaded():
        found = as_built(model)
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_before_the_first_step_the_network_keeps_its_weights():
    model = network()
    average = Average(model, 0.9)
    with torch.no_grad():
        model[1].bias.fill_(7.0)  # as a head that was solved for, without a step
    with average.loaded():
        assert bool((model[1].bias == 7.0).all())


def test_its_own_weights_come_back_where_validation_fails():
    model = network()
    average, optimizer = Average(model, 0.9), torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(2, 3, 2, 2)).sum().backward()
    optimizer.step()
    average.take_step()
    raw = copied(model.state_dict())
    with pytest.raises(ZeroDivisionError), average.loaded():
        raise ZeroDivisionError
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("decay", [None, 0.0])
def test_off_or_with_a_decay_of_0_the_training_is_what_it_was(decay):
    losses = [2 - 0.05 * i for i in range(13)]
    plain, plain_state, _ = run(losses)
    model, state, _ = run(losses, plan=dataclasses.replace(PLAN, ema_decay=decay))
    assert outcome(model, state) == outcome(plain, plain_state)


def test_the_average_is_what_is_validated_and_kept_and_the_weights_learn_as_before():
    seen, learned, inner = [], [], made("sgd", "constant")
    one = dataclasses.replace(AVERAGED, max_epochs=3)

    def trained(plan):
        seen.clear()
        learned.clear()
        model = network()

        def evaluate(judged):
            seen.append(copied(judged.state_dict()))
            return inner.evaluate(judged)

        class Raw(Diary):
            def step_done(self, images):
                learned.append(copied(model.state_dict()))

        state = train(model, plan, dataclasses.replace(inner, evaluate=evaluate), Observers([Raw(model)]), lambda: None)
        return state, list(seen), list(learned)

    state, judged, steps = trained(one)
    _, _, expected_steps = trained(dataclasses.replace(one, ema_decay=None))
    assert [[v.tolist() for v in s.values()] for s in steps] == [
        [v.tolist() for v in s.values()] for s in expected_steps
    ]
    average = network().state_dict()
    for step, weights in enumerate(steps[:3]):
        now = min(0.9, (1 + step) / (10 + step))
        average = {name: now * value + (1 - now) * weights[name] for name, value in average.items()}
    torch.testing.assert_close(judged[0], average)
    assert all(torch.equal(state.best.weights[name], judged[state.best.epoch.epoch - 1][name]) for name in average)


def test_each_stage_begins_a_new_average_from_the_best_model():
    begun = []
    inner = made("sgd", "constant")

    class Watch(Diary):
        def stage_begins(self, stage, state):
            begun.append(state.best and copied(state.best.weights))

    first = []

    def optimizer(model, rate):
        first.append(copied(model.state_dict()))
        return inner.make_optimizer(model, rate)

    model = network()
    train(
        model, AVERAGED, dataclasses.replace(inner, make_optimizer=optimizer), Observers([Watch(model)]), lambda: None
    )
    assert len(begun) > 2
    for best, start in zip(begun[1:], first[1:], strict=True):
        assert all(torch.equal(best[name], start[name]) for name in start)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "schedule"), [("sgd", "plateau"), ("adamw", "cosine")])
def test_stopped_after_any_step_it_ends_as_if_it_had_not_been(tmp_path, kind, schedule):
    whole = network()
    expected = outcome(whole, train(whole, AVERAGED, made(kind, schedule), Observers([Diary(whole)]), lambda: None))
    for steps in range(1, 40, 2):
        checkpoints, model = Checkpoints(tmp_path / str(steps), 1e9), network()
        state = train(
            model, AVERAGED, made(kind, schedule), Observers([Diary(model), checkpoints]), stopping_after(steps)
        )
        if state.stopped is None:
            assert steps > 3 * len(expected[0]) and outcome(model, state) == expected
            continue
        again = network()
        found = checkpoints.newest(again)
        assert found.snapshot is not None, found.damaged
        best = best_weights_of(found.snapshot)
        saved = Saved(state_of(found.snapshot.plain["state"], AVERAGED, best), found.snapshot)
        state = train(
            again, AVERAGED, made(kind, schedule), Observers([Diary(again), checkpoints]), lambda: None, saved
        )
        assert outcome(again, state) == expected, steps


def test_without_it_a_saved_step_says_nothing_of_it():
    model = network()
    snapshot = capture(model, State(), under_way(model))
    assert not any(name.startswith("average") for name in snapshot.tensors)
    assert "average_steps" not in snapshot.plain["under_way"]


def test_an_average_of_other_weights_is_refused():
    average = Average(network(), 0.9)
    with pytest.raises(ValueError, match="belongs to other weights"):
        average.restore({}, 3)
    with pytest.raises(ValueError, match="belongs to other weights"):
        average.restore(average.weights | {"1.bias": torch.zeros(1)}, 3)
