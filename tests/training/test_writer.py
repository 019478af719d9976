"""Checkpoints that a thread writes while the training goes on."""

import dataclasses
import threading

import pytest
import torch

from fieldguide.training import checkpoint_files
from fieldguide.training.checkpoint import best_weights_of, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Callback, Observers
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.plan import Convergence
from fieldguide.training.schedule import Constant
from fieldguide.training.state import State
from fieldguide.training.under_way import UnderWay
from fieldguide.training.writer import Writer
from tests.training.stages import phase
from tests.training.test_loop import BY_SIGNAL, PLAN, falling, network, tools

FEW = dataclasses.replace(PLAN, max_epochs=6)


def slow(monkeypatch, gate):
    """Each write of tensors waits for the gate."""
    real = checkpoint_files.write_bytes

    def write(path, content):
        assert gate.wait(timeout=30)
        real(path, content)

    monkeypatch.setattr(checkpoint_files, "write_bytes", write)


class Steps(Callback):
    def __init__(self, at=None, act=lambda: None):
        self.count, self.at, self.act = 0, at, act

    def step_done(self, images):
        self.count += 1
        if self.count == self.at:
            self.act()


def test_the_training_goes_on_while_it_is_written_and_the_file_holds_what_was_then(tmp_path, monkeypatch):
    gate = threading.Event()
    slow(monkeypatch, gate)
    checkpoints, seen = Checkpoints(tmp_path / "c", 1e9, in_background=True), []
    steps = Steps(at=5, act=lambda: (seen.append(checkpoints.numbers()), gate.set()))  # two steps into epoch 2
    model = network()
    train(
        model, dataclasses.replace(PLAN, max_epochs=2), tools(falling(9)), Observers([checkpoints, steps]), lambda: None
    )
    assert seen == [[]]  # nothing was there yet, and the training went on all the same
    assert checkpoints.newest(model).is_done and checkpoints.writer.told()["written"] == 2


@pytest.mark.parametrize("in_background", [True, False])
def test_a_training_resumed_from_any_of_them_ends_in_the_same_bits(tmp_path, in_background):
    whole = network()
    train(whole, FEW, tools(falling(9)), Observers([]), lambda: None)
    for stop_at in (2, 5, 11):
        steps = Steps()

        def stop(steps=steps, at=stop_at):
            return BY_SIGNAL if steps.count >= at - 1 else None

        kept = Checkpoints(tmp_path / f"{stop_at}{in_background}", 0, in_background=in_background)
        train(network(), FEW, tools(falling(9)), Observers([kept, steps]), stop)
        model = network()
        found = Checkpoints(kept.folder, 0).newest(model).snapshot
        state = state_of(found.plain["state"], FEW, best_weights_of(found))
        again = tools(falling(9)[len(state.history) :])
        train(model, FEW, again, Observers([]), lambda: None, Saved(state, found))
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))


def test_it_is_a_copy_that_is_written(tmp_path, monkeypatch):
    gate, real = threading.Event(), checkpoint_files.to_bytes
    monkeypatch.setattr(checkpoint_files, "to_bytes", lambda tensors: gate.wait(30) and real(tensors))
    model, checkpoints = network(), Checkpoints(tmp_path, 1e9, in_background=True)
    optimizer = make_optimizer(model, 0.1, kind="sgd", momentum=0, weight_decay=0)
    stage = UnderWay(phase("standard", 3), optimizer, Constant(), Convergence(0.001, 3))
    before = model[1].weight.detach().clone()
    checkpoints.save(model, State(), stage)
    with torch.no_grad():
        model[1].weight.add_(1)
    gate.set()
    checkpoints.writer.wait()
    assert torch.equal(checkpoints.newest(model).snapshot.tensors["model.1.weight"], before)


def test_an_error_of_the_thread_is_raised_in_the_training(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "write_bytes", full)
    checkpoints = Checkpoints(tmp_path / "c", 1e9, in_background=True)
    with pytest.raises(OSError, match="No space left"):
        train(network(), FEW, tools(falling(9)), Observers([checkpoints]), lambda: None)
    assert threading.active_count() == 1 or not any(t.name == "checkpoint" for t in threading.enumerate())


def test_by_minutes_only_the_ends_of_stages_and_what_is_due_are_written(tmp_path):
    written = []

    class Kept(Checkpoints):
        def _write(self, plain, tensors, beside):
            written.append(len(plain["state"]["history"]))
            return super()._write(plain, tensors, beside)

    train(network(), FEW, tools(falling(9)), Observers([Kept(tmp_path / "a", 1e9, every_epoch=False)]), lambda: None)
    assert written == [4, 6]  # the first phase has 4 epochs; the last entry is the end of the training
    written.clear()
    train(network(), FEW, tools(falling(9)), Observers([Kept(tmp_path / "b", 1e9)]), lambda: None)
    assert written == [1, 2, 3, 4, 5, 6, 6]


def test_what_it_cost_is_told():
    writer = Writer(in_background=True)
    gate = threading.Event()
    with writer.holding_up():
        writer.write(lambda: gate.wait(30) and 7)
    gate.set()
    writer.wait()
    told = writer.told()
    assert (told["written"], told["bytes"]) == (1, 7) and told["held_up_seconds"] < 30 and told["seconds"] >= 0
