"""The stage that is being trained."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from fieldguide.training.average import Average
from fieldguide.training.optimizer import SHARE
from fieldguide.training.plan import Convergence, Stage
from fieldguide.training.schedule import Schedule
from fieldguide.training.state import Running


@dataclass
class UnderWay:
    """A stage, with all that changes in it besides the network."""

    stage: Stage
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    convergence: Convergence
    epochs: int = 0  # so many of it are done
    improved: bool = False  # whether one of them made a new best model
    running: Running = field(default_factory=Running)  # the epoch after these
    average: Average | None = None  # of the weights over the stage's steps

    @property
    def rate(self) -> float:
        """The stage's learning rate now; a layer may learn at a share of it."""
        first = self.optimizer.param_groups[0]
        return float(first["lr"] / first.get(SHARE, 1.0))

    def cut(self, epochs: float) -> None:
        """Time ended the stage after so many epochs, in which no rate had fallen for it."""
        self.stage = self.stage.again(epochs, epochs)

    def undo_cut(self) -> None:
        """The stage goes on after all."""
        self.stage = self.stage.model_copy(update={"replanned": self.stage.replanned[:-1]})

    def take(self, stage: Stage) -> None:
        """Goes on with the stage as it was planned again."""
        self.stage = stage
        self.schedule.plan_again(stage)
        self.convergence.patience_epochs = stage.patience(self.epochs)

    def judged(self) -> AbstractContextManager[None]:
        """Within it the network holds what validation judges: the average, where there is one."""
        return nullcontext() if self.average is None else self.average.loaded()
