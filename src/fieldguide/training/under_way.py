"""The stage that is being trained."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from fieldguide.training.average import Average
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

    def judged(self) -> AbstractContextManager[None]:
        """Within it the network holds what validation judges: the average, where there is one."""
        return nullcontext() if self.average is None else self.average.loaded()
