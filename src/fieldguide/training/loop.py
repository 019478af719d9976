"""The training itself. Phases, then rounds; each a stretch of epochs; each epoch steps, validation, record."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from fieldguide.errors import FieldguideError, TrainingError
from fieldguide.training.optimizer import MakeOptimizer
from fieldguide.training.plan import Convergence, Ended, Plan, Stage, next_stage
from fieldguide.training.schedule import MakeSchedule, Schedule
from fieldguide.training.state import Best, Epoch, Scores, State
from fieldguide.training.step import StepSettings, train_step, training_mode


class TrainingBatch(Protocol):
    """A batch on its device."""

    @property
    def images(self) -> torch.Tensor:
        """(batch, 3, height, width) float32, normalised."""

    @property
    def labels(self) -> torch.Tensor:
        """(batch,) int64."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the photos, for messages."""


@dataclass(frozen=True)
class Tools:
    """What the loop works with; it knows nothing else.

    Attributes:
        batches: (augmentation, epoch) to that epoch's batches.
        steps_per_epoch: how many there are.
        evaluate: a network to its validation figures.
        make_optimizer: (network, rate) to an optimiser.
        make_schedule: (optimiser, stage, steps an epoch) to a schedule.
        set_trainable: lets a part of the network learn and freezes the rest.
        step: loss, clipping, precision.
        seed_step: called with (epoch, step) before each step; dropout depends on it alone.
    """

    batches: Callable[[str, int], Iterator[TrainingBatch]]
    steps_per_epoch: int
    evaluate: Callable[[nn.Module], Scores]
    make_optimizer: MakeOptimizer
    make_schedule: MakeSchedule
    set_trainable: Callable[[nn.Module, str], None]
    step: StepSettings
    seed_step: Callable[[int, int], None]


class Observer(Protocol):
    """Is told what happens; nothing that it does changes the training."""

    def stage_begins(self, stage: Stage, state: State) -> None:
        """Before a stage's first epoch."""

    def step_done(self, images: int) -> None:
        """After a step on so many photos."""

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """After an epoch; `state.best` is up to date."""

    def stage_done(self, ended: Ended) -> None:
        """After a stage's last epoch."""


def train(model: nn.Module, plan: Plan, tools: Tools, observer: Observer, stop: Callable[[], str]) -> State:
    """Trains `model` by `plan`.

    Args:
        model: changed in place; at the end it holds the best weights, if an epoch was finished.
        plan: phases and rounds.
        tools: data, optimiser, schedule.
        observer: is told what happens.
        stop: asked after each step; a reason other than an empty text ends the training there, and the unfinished
            epoch is dropped.

    Returns:
        The state at the end: `state.best` is the best model by `plan.best_by`, and `state.stopped` says why it ended
        early (a signal, a loss that was not finite, a photo that went away).
    """
    training = _Training(model, plan, tools, observer, stop, State())
    try:
        training.run()
    except FieldguideError as error:  # a loss that is not finite, a photo that went away: the best so far is kept
        training.state.stopped = str(error)
    training.go_back_to_best()
    model.eval()
    return training.state


@dataclass
class _Training:
    """Phases and rounds, epochs, steps: each a method."""

    model: nn.Module
    plan: Plan
    tools: Tools
    observer: Observer
    stop: Callable[[], str]
    state: State

    def run(self) -> None:
        """Phases, then rounds."""
        state = self.state
        while not state.stopped and not self._is_used_up() and (stage := next_stage(self.plan, state.ended)):
            self.observer.stage_begins(stage, state)
            ended = self._run_stage(stage)
            state.ended.append(ended)
            self.observer.stage_done(ended)

    def go_back_to_best(self) -> None:
        """Loads the best weights so far, if there are any."""
        if self.state.best is not None:
            self.model.load_state_dict(self.state.best.weights)

    def _run_stage(self, stage: Stage) -> Ended:
        """One phase or round, from the best model so far, with a fresh optimiser and schedule."""
        self.go_back_to_best()
        self.tools.set_trainable(self.model, stage.trainable)
        optimizer = self.tools.make_optimizer(self.model, stage.learning_rate)
        schedule = self.tools.make_schedule(optimizer, stage, self.tools.steps_per_epoch)
        convergence = Convergence(stage.min_improvement, stage.patience_epochs)
        epochs: list[Epoch] = []
        reason = "its most epochs"
        while len(epochs) < stage.max_epochs:
            if self._is_used_up():
                reason = "the training's most epochs"
                break
            epoch = self._run_epoch(stage, optimizer, schedule, len(epochs) * self.tools.steps_per_epoch)
            if epoch is None:
                reason = self.state.stopped
                break
            epochs.append(epoch)
            if convergence.reached(epoch.validation.loss):
                reason = f"converged: no better by {stage.min_improvement:g} for {stage.patience_epochs} epochs"
                break
        return Ended(stage, len(epochs), any(epoch.best for epoch in epochs), reason)

    def _run_epoch(
        self, stage: Stage, optimizer: torch.optim.Optimizer, schedule: Schedule, first_step: int
    ) -> Epoch | None:
        """One epoch and its validation; None where it was stopped in between."""
        number, began = len(self.state.history) + 1, time.perf_counter()
        schedule.before_step(first_step)
        learning_rate = optimizer.param_groups[0]["lr"]
        training = self._run_steps(stage, optimizer, schedule, first_step, number)
        if training is None:
            return None
        trained = time.perf_counter()
        validation = self.tools.evaluate(self.model)
        if not math.isfinite(validation.loss):
            raise TrainingError(
                f"the validation loss of epoch {number} is not finite; try a lower training.learning_rate"
            )
        schedule.after_epoch(validation)
        best = self.state.best
        epoch = Epoch(
            epoch=number,
            stage_number=len(self.state.ended) + 1,
            kind=stage.kind,
            stage=stage.name,
            learning_rate=learning_rate,
            training=training,
            validation=validation,
            seconds=time.perf_counter() - began,
            images_per_second=training.images / max(trained - began, 1e-9),
            best=best is None or _is_better(validation, best.epoch.validation, self.plan.best_by),
        )
        self._keep(epoch)
        return epoch

    def _run_steps(
        self, stage: Stage, optimizer: torch.optim.Optimizer, schedule: Schedule, first_step: int, epoch: int
    ) -> Scores | None:
        """The steps of an epoch: running figures under augmentation and dropout; None where it was stopped."""
        training_mode(self.model)
        loss_sum, correct, images = 0.0, 0, 0
        for step, batch in enumerate(self.tools.batches(stage.augmentation, epoch)):
            schedule.before_step(first_step + step)
            self.tools.seed_step(epoch, step)
            loss, right = train_step(self.model, optimizer, batch.images, batch.labels, self.tools.step)
            _demand_finite(loss, epoch, step, batch.files)
            count = len(batch.labels)
            loss_sum, correct, images = loss_sum + float(loss) * count, correct + int(right), images + count
            self.observer.step_done(count)
            self.state.stopped = self.stop()
            if self.state.stopped:
                return None
        return Scores(images, loss_sum, correct)

    def _keep(self, epoch: Epoch) -> None:
        self.state.history.append(epoch)
        if epoch.best:
            weights = {name: value.detach().to("cpu", copy=True) for name, value in self.model.state_dict().items()}
            self.state.best = Best(epoch, weights)
        self.observer.epoch_done(epoch, self.state)

    def _is_used_up(self) -> bool:
        return self.plan.max_epochs is not None and len(self.state.history) >= self.plan.max_epochs


def _is_better(new: Scores, old: Scores, best_by: str) -> bool:
    """By loss; or by accuracy, with the loss to break a tie."""
    if best_by == "validation_accuracy" and new.correct != old.correct:
        return new.correct > old.correct
    return new.loss < old.loss


def _demand_finite(loss: torch.Tensor, epoch: int, step: int, files: tuple[str, ...]) -> None:
    if not math.isfinite(float(loss)):
        raise TrainingError(
            f"the loss is not finite in epoch {epoch}, step {step + 1} (photos {', '.join(files[:3])} and "
            f"{max(0, len(files) - 3)} more); try a lower training.learning_rate, training.gradient_clip_norm=1, or "
            "execution=exact"
        )
