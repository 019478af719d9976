"""The training itself. Phases, then rounds; each a stretch of epochs; each epoch steps, validation, record."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from torch import nn

from fieldguide.errors import FieldguideError, UsageError
from fieldguide.training.average import Average
from fieldguide.training.checkpoint import Snapshot, restore
from fieldguide.training.ends import NotFinite, Reason, Stopped, stopped_by
from fieldguide.training.limits import Limits
from fieldguide.training.observers import Observers
from fieldguide.training.plan import Convergence, Ended, Plan, Stage, next_stage
from fieldguide.training.scaling import note_scaling
from fieldguide.training.soup import Weights, can_make_soup, keep, make_soup
from fieldguide.training.state import Epoch, Halved, Running, Scores, State, is_better
from fieldguide.training.step import OnDevice, go_on_from, train_step, training_mode
from fieldguide.training.tools import Goes, Tools
from fieldguide.training.under_way import UnderWay


@dataclass(frozen=True)
class Saved:
    """A training to resume: its state, and the stage it was within, if any."""

    state: State
    snapshot: Snapshot | None = None


def train(
    model: nn.Module,
    plan: Plan,
    tools: Tools,
    observers: Observers,
    stop: Callable[[], Stopped | None],
    saved: Saved | None = None,
) -> State:
    """Trains `model` by `plan`, in place; at the end it holds the best weights, if an epoch ended.

    Args:
        observers: are told what happens, and asked to save after each epoch, when due, and where it is stopped.
        stop: asked after each step; anything but None ends the training there.
        saved: what to resume; None: start from the beginning.

    Returns:
        The state at the end: `state.best` is the best model by `plan.best_by`, and `state.stopped` says why it ended
        early (a signal, a loss that was not finite, a photo that went away).

    Raises:
        UsageError: `saved` belongs to another training.
    """
    state = saved.state if saved else State()
    training = _Training(model, plan, tools, observers, stop, state, Limits(plan, state, tools.steps_per_epoch))
    go_on_from(state, tools.step)
    try:
        training.run(saved.snapshot if saved else None)
    except UsageError:  # the checkpoint belongs to another training
        raise
    except FieldguideError as error:  # not finite, or a photo is gone: the best so far is kept
        state.stopped = stopped_by(error)
        training.save_unless_spoilt()
    training.go_back_to_best()
    model.eval()
    observers.tell(lambda each: each.training_done(state))
    return state


@dataclass
class _Training:
    """Phases and rounds, epochs, steps: each a method."""

    model: nn.Module
    plan: Plan
    tools: Tools
    observers: Observers
    stop: Callable[[], Stopped | None]
    state: State
    limits: Limits
    under_way: UnderWay | None = None

    def run(self, snapshot: Snapshot | None) -> None:
        """Phases, then rounds; first the rest of the stage that was saved."""
        self.under_way = self._resume(snapshot) if snapshot else self._begin_next()
        self.limits.count_earlier(self.under_way.running.seconds if self.under_way else 0.0)
        while (under_way := self.under_way) is not None:
            reason = self._run_stage(under_way)
            self.state.ended.append(Ended(under_way.stage, under_way.epochs, under_way.improved, reason))
            self.under_way = None  # it is not saved again, as if it were the next one
            self.observers.tell(lambda each: each.stage_done(self.state.ended[-1]))
            self.under_way = self._begin_next()
        if can_make_soup(self.state, self.plan):  # also when out of time: its time was reserved
            make_soup(self.state, self._evaluate_as_built, self._is_better)

    def go_back_to_best(self) -> None:
        """Loads the best weights so far, if there are any."""
        if self.state.best is not None:
            self.tools.load(self.model, self.state.best.weights)

    def save_unless_spoilt(self) -> None:
        """Saves after a missing photo, since the steps before it are good; not after a loss that is not finite."""
        if self.under_way is not None and not self.state.is_spoilt:
            if self.under_way.running.images and self.state.out_of_time:  # the epoch that it cut is not judged yet
                self.state.out_of_time = False
                self.under_way.undo_cut()
            self._save(self.under_way)

    def _begin_next(self) -> UnderWay | None:
        """The next phase or round, from the best model so far; None at the end."""
        stage = None if self.state.stopped or self.limits.is_used_up() else self._next_stage()
        if stage is None or (self.state.history and self.limits.is_too_late_for(stage)):
            return None
        stage = self._planned_again(stage, 0)
        self.observers.tell(lambda each: each.stage_begins(stage, self.state))
        self.go_back_to_best()
        return self._prepare(stage)

    def _resume(self, snapshot: Snapshot) -> UnderWay:
        stage = self._next_stage()
        assert stage is not None, "a stage was under way"
        under_way = self._prepare(stage)
        restore(snapshot, self.model, under_way)
        self.observers.tell(lambda each: each.stage_resumes(stage, self.state, under_way.running))
        return under_way

    def _prepare(self, stage: Stage) -> UnderWay:
        """A fresh optimiser and schedule over what learns in the stage."""
        self.tools.prepare(self.model, stage)
        optimizer = self.tools.make_optimizer(self.model, stage.learning_rate)
        schedule = self.tools.make_schedule(optimizer, stage, self.tools.steps_per_epoch)
        under_way = UnderWay(stage, optimizer, schedule, Convergence(stage.min_improvement, stage.patience_epochs))
        if self.plan.ema_decay is not None:
            under_way.average = Average(self.model, self.plan.ema_decay)
        return under_way

    def _run_stage(self, under_way: UnderWay) -> Reason:
        """Trains the stage's epochs; returns why it ended."""
        while (reason := self.limits.why_it_ends(under_way)) is None:
            epoch = self._run_epoch(under_way)
            if epoch is None:
                return Reason.STOPPED
            under_way.epochs += 1
            under_way.improved |= epoch.best
            under_way.convergence.take(epoch.validation.loss)
            under_way.running = Running()
            under_way.take(self._planned_again(under_way.stage, under_way.epochs))
            self._save(under_way)
        return reason

    def _planned_again(self, stage: Stage, done: int) -> Stage:
        changed = self.limits.planned_again(stage, done)
        if changed is not stage:
            self.observers.tell(lambda each: each.planned_again(changed))
        return changed

    def _run_epoch(self, under_way: UnderWay) -> Epoch | None:
        """One epoch, or the rest of it, and its validation; None if it was stopped before the end."""
        number, running = len(self.state.history) + 1, under_way.running
        running.began = time.perf_counter()
        learn = self._solve if under_way.stage.method == "probe" else self._run_steps
        if not learn(under_way, number):
            return None
        trained = running.elapsed()
        with under_way.judged():
            return self._judge(under_way, number, trained)

    def _judge(self, under_way: UnderWay, number: int, trained: float) -> Epoch:
        """Validates and records an epoch, after `trained` seconds of training."""
        running = under_way.running
        validation = self.tools.evaluate(self.model)
        if not math.isfinite(validation.loss):
            raise NotFinite("validation loss", number)
        under_way.schedule.after_epoch(validation)
        epoch = Epoch(
            epoch=number,
            stage_number=len(self.state.ended) + 1,
            kind=under_way.stage.kind,
            stage=under_way.stage.name,
            learning_rate=running.learning_rate,
            training=Scores(running.images, running.loss_sum, running.correct),
            validation=validation,
            seconds=running.elapsed(),
            images_per_second=running.images / max(trained, 1e-9),
            best=self.state.best is None or self._is_better(validation, self.state.best.epoch.validation),
        )
        self._record(epoch)
        return epoch

    def _solve(self, under_way: UnderWay, epoch: int) -> bool:
        """Runs a probe; false if it was stopped, then it starts over when resumed."""
        stage, running, done, is_cut = under_way.stage, under_way.running, 0, False

        def goes(photos: int, is_more: bool) -> Goes:
            nonlocal done, is_cut
            done += 1
            self.observers.tell(lambda each: each.step_done(photos))
            self._ask_whether_to_stop()
            if self.state.stopped or not is_more:
                return "stop" if self.state.stopped else "on"
            is_cut = self.limits.ends_probe(stage, done, running.elapsed())
            return "enough" if is_cut else "on"

        figures = self.tools.probe(self.model, stage, epoch, goes)
        if figures is not None:
            running.images, running.loss_sum, running.correct = figures.images, figures.loss_sum, figures.correct
            if is_cut and not stage.replanned:
                under_way.cut(done / self.tools.steps_per_epoch)
        return figures is not None

    def _run_steps(self, under_way: UnderWay, epoch: int) -> bool:
        """The remaining steps of an epoch; false if it was stopped between two."""
        stage, running, waiting = under_way.stage, under_way.running, OnDevice()
        before = under_way.epochs * self.tools.steps_per_epoch
        training_mode(self.model)
        end = stage.end_of_epoch(self.tools.steps_per_epoch, before)
        batches = islice(self.tools.batches(stage, epoch, running.steps), max(0, end - before - running.steps))
        while True:
            with self._collecting(waiting, running, epoch):
                batch = next(batches, None)
            if batch is None:
                break
            under_way.schedule.before_step(before + running.steps)
            running.learning_rate = running.learning_rate if running.steps else under_way.rate
            self.tools.seed_step(epoch, running.steps)
            mix = self.tools.draw_mix(epoch, running.steps, *batch.images.shape[-2:])
            images, labels, photos = batch.images, batch.labels, len(batch.files)  # of all processes
            with self._collecting(waiting, running, epoch):
                loss, right = train_step(self.model, under_way.optimizer, images, labels, self.tools.step, mix, photos)
            if under_way.average is not None:
                under_way.average.take_step()
            waiting.add(loss, right, batch.files, under_way.rate)
            running.steps += 1
            self._tell_step(epoch, running.steps, photos)
            self._ask_whether_to_stop()
            is_due = self.state.stopped is not None or self.observers.is_due()
            if is_due or waiting.is_full:
                self._collect(waiting, running, epoch)
            if is_due:
                self._save(under_way)
            if self.state.stopped:
                return False
            if before + running.steps < end and self.limits.is_out_of_time():
                under_way.cut((before + running.steps) / self.tools.steps_per_epoch)
                break
        self._collect(waiting, running, epoch)
        return True

    @contextmanager
    def _collecting(self, waiting: OnDevice, running: Running, epoch: int) -> Iterator[None]:
        """Where a photo or a process is gone, the steps before are good: their losses are collected."""
        try:
            yield
        except FieldguideError:
            self._collect(waiting, running, epoch)
            raise

    def _collect(self, waiting: OnDevice, running: Running, epoch: int) -> None:
        """The only place within an epoch that waits for the device."""
        if steps := waiting.collect(running, epoch):
            self.observers.tell(lambda each: each.losses_known(steps))
        if skipped := note_scaling(self.tools.step.scaling, self.state, epoch):
            self.observers.tell(lambda each: each.skipped(epoch, skipped))

    def _save(self, under_way: UnderWay) -> None:
        self.observers.tell(lambda each: each.save(self.model, self.state, under_way))

    def _ask_whether_to_stop(self) -> None:
        self.state.stopped = self.stop() or self.observers.stopped

    def _tell_step(self, epoch: int, step: int, images: int) -> None:
        """Halving is recorded, because batch normalisation sees only the micro-batch."""
        at_once = self.tools.step.micro_batch
        if at_once.was_halved:
            at_once.was_halved, halved = False, Halved(epoch, step, at_once.photos)
            self.state.halved.append(halved)
            self.observers.tell(lambda each: each.halved(halved))
        self.observers.tell(lambda each: each.step_done(images))

    def _record(self, epoch: Epoch) -> None:
        self.state.history.append(epoch)
        keep(self.state, epoch, lambda: self.tools.weights(self.model), self.plan, self._is_better)
        self.observers.tell(lambda each: each.epoch_done(epoch, self.state))

    def _evaluate_as_built(self, weights: Weights) -> Scores | None:
        """Validation figures of weights as the network is built; None if the training was told to stop."""
        self._ask_whether_to_stop()
        if self.state.stopped:
            return None
        self.tools.load(self.model, weights)
        return self.tools.evaluate(self.model)

    def _is_better(self, new: Scores, old: Scores) -> bool:
        return is_better(new, old, self.plan)

    def _next_stage(self) -> Stage | None:
        return next_stage(self.plan, self.state.ended, self.state.more)
