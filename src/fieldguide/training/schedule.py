"""Learning rates over a stage; only here are epochs converted to steps."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch

from fieldguide.training.optimizer import SHARE
from fieldguide.training.plan import Stage
from fieldguide.training.state import Scores


class Schedule:
    """Changes an optimiser's rate before a step or after an epoch; each method does nothing by itself."""

    def before_step(self, step: int) -> None:
        """Called with the step's number within the stage, from 0."""

    def after_epoch(self, validation: Scores) -> None:
        """Called with the epoch's validation figures."""

    def plan_again(self, stage: Stage) -> None:
        """Called with the stage where its number of epochs has changed."""

    def memory(self) -> dict[str, float]:
        """What it remembers between epochs; the rates are in the optimiser, or follow from the step alone."""
        return {}

    def restore(self, memory: Mapping[str, float]) -> None:
        """Restores what `memory` gave."""


MakeSchedule = Callable[[torch.optim.Optimizer, Stage, int], Schedule]


class Constant(Schedule):
    """The same rate throughout."""


class Plateau(Schedule):
    """torch's ReduceLROnPlateau, stepped after each epoch."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        metric: str,  # `validation_accuracy` or `validation_loss`
        factor: float,
        patience_epochs: int,
        accuracy: str = "accuracy",  # what `validation_accuracy` is: this, or `macro_accuracy`
    ) -> None:
        self.metric = metric
        self.accuracy = accuracy
        mode: Literal["max", "min"] = "max" if metric == "validation_accuracy" else "min"
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode=mode, factor=factor, patience=patience_epochs
        )

    def after_epoch(self, validation: Scores) -> None:
        """Lowers the rate after more than `patience_epochs` without improvement."""
        by_accuracy = self.metric == "validation_accuracy"
        self.scheduler.step(validation.accuracy_by(self.accuracy) if by_accuracy else validation.loss)

    def memory(self) -> dict[str, float]:
        """The best metric so far and the epochs since; empty before the first epoch."""
        made = self.scheduler
        if made.last_epoch == 0:
            return {}
        return {"best": made.best, "num_bad_epochs": made.num_bad_epochs, "last_epoch": made.last_epoch}

    def restore(self, memory: Mapping[str, float]) -> None:
        """Restores what `memory` gave."""
        if memory:
            self.scheduler.best = float(memory["best"])
            self.scheduler.num_bad_epochs = int(memory["num_bad_epochs"])
            self.scheduler.last_epoch = int(memory["last_epoch"])


class Cosine(Schedule):
    """Linear warm-up, then half a cosine that reaches zero after the last step (Loshchilov and Hutter 2017, eq. 5).

    Where the stage was planned again, the rest of the cosine is stretched to the new end, so the rate does not jump.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, stage: Stage, steps_per_epoch: int, warmup_epochs: float
    ) -> None:
        self.optimizer = optimizer
        self.peak = stage.learning_rate
        self.an_epoch = steps_per_epoch
        self.stage = stage
        first = stage.batches(steps_per_epoch, 0)
        self.warmup_steps = min(round(warmup_epochs * min(first, steps_per_epoch)), max(0, first - 1))

    def before_step(self, step: int) -> None:
        """Sets the step's rate; each group gets its share."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * self.share(step) * group.get(SHARE, 1.0)

    def plan_again(self, stage: Stage) -> None:
        """Takes the new end."""
        self.stage = stage

    def share(self, step: int) -> float:
        """The step's share of the peak rate, in (0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * self._done(step)))

    def _done(self, step: int) -> float:
        """The share of the cosine before the step, in [0, 1]."""
        done, begin, end = 0.0, self.warmup_steps, self.stage.max_epochs * self.an_epoch
        for after, epochs in self.stage.replanned:
            at = max(round(after * self.an_epoch), self.warmup_steps)
            if at > step:
                break
            done += (1 - done) * (at - begin) / max(1, end - begin)
            begin, end = at, round(epochs * self.an_epoch)
        return min(1.0, done + (1 - done) * (step - begin) / max(1, end - begin))
