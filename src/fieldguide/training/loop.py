"""The training itself. Phases, then rounds; each a stretch of epochs; each epoch steps, validation, record."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from fieldguide.errors import TrainingError
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
        The state at the end, `state.best` the best model by `plan.best_by`.
    """
    state = State()
    try:
        while not state.stopped and (stage := next_stage(plan, state.ended)) and not _used_up(plan, state):
            observer.stage_begins(stage, state)
            ended = _train_stage(model, stage, plan, tools, state, observer, stop)
            state.ended.append(ended)
            observer.stage_done(ended)
    except TrainingError as error:
        state.stopped = str(error)
    if state.best is not None:
        model.load_state_dict(state.best.weights)
    model.eval()
    return state


def _train_stage(
    model: nn.Module, stage: Stage, plan: Plan, tools: Tools, state: State, observer: Observer, stop: Callable[[], str]
) -> Ended:
    """One phase or round, from the best model so far, with a fresh optimiser and schedule."""
    if state.best is not None:
        model.load_state_dict(state.best.weights)
    tools.set_trainable(model, stage.trainable)
    optimizer = tools.make_optimizer(model, stage.learning_rate)
    schedule = tools.make_schedule(optimizer, stage, tools.steps_per_epoch)
    convergence = Convergence(stage.min_improvement, stage.patience_epochs)
    improved, epochs, reason = False, 0, "its most epochs"
    while epochs < stage.max_epochs:
        if _used_up(plan, state):
            reason = "the training's most epochs"
            break
        epoch = _train_epoch(model, optimizer, schedule, stage, epochs, plan, tools, state, observer, stop)
        if epoch is None:
            reason = state.stopped
            break
        epochs += 1
        improved = improved or epoch.best
        if convergence.reached(epoch.validation.loss):
            reason = f"converged: no better by {stage.min_improvement:g} for {stage.patience_epochs} epochs"
            break
    return Ended(stage, epochs, improved, reason)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    stage: Stage,
    epoch_in_stage: int,
    plan: Plan,
    tools: Tools,
    state: State,
    observer: Observer,
    stop: Callable[[], str],
) -> Epoch | None:
    """One epoch and its validation; None where it was stopped in between."""
    number, began = len(state.history) + 1, time.perf_counter()
    training_mode(model)
    first_step = epoch_in_stage * tools.steps_per_epoch
    schedule.before_step(first_step)
    learning_rate = optimizer.param_groups[0]["lr"]
    loss_sum, correct, images = 0.0, 0, 0
    for step, batch in enumerate(tools.batches(stage.augmentation, number)):
        schedule.before_step(first_step + step)
        tools.seed_step(number, step)
        loss, right = train_step(model, optimizer, batch.images, batch.labels, tools.step)
        count = len(batch.labels)
        _demand_finite(loss, number, step, batch.files)
        loss_sum, correct, images = loss_sum + float(loss) * count, correct + int(right), images + count
        observer.step_done(count)
        state.stopped = stop()
        if state.stopped:
            return None
    trained = time.perf_counter()
    validation = tools.evaluate(model)
    if not math.isfinite(validation.loss):
        raise TrainingError(f"the validation loss of epoch {number} is not finite; try a lower training.learning_rate")
    schedule.after_epoch(validation)
    best = state.best is None or _is_better(validation, state.best.epoch.validation, plan.best_by)
    epoch = Epoch(
        epoch=number,
        stage_number=len(state.ended) + 1,
        kind=stage.kind,
        stage=stage.name,
        learning_rate=learning_rate,
        training=Scores(images, loss_sum, correct),
        validation=validation,
        seconds=time.perf_counter() - began,
        images_per_second=images / max(trained - began, 1e-9),
        best=best,
    )
    state.history.append(epoch)
    if best:
        weights = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
        state.best = Best(epoch, weights)
    observer.epoch_done(epoch, state)
    return epoch


def _used_up(plan: Plan, state: State) -> bool:
    return plan.max_epochs is not None and len(state.history) >= plan.max_epochs


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
