"""Who is told what happens in a training, and who saves it."""

from typing import Protocol

from torch import nn

from fieldguide.training.checkpoint import UnderWay
from fieldguide.training.plan import Ended, Stage
from fieldguide.training.state import Epoch, Halved, Running, State


class Observer(Protocol):
    """Is told what happens; nothing that it does changes the training."""

    def stage_begins(self, stage: Stage, state: State) -> None:
        """Before a stage's first epoch."""

    def stage_goes_on(self, stage: Stage, state: State, running: Running) -> None:
        """In place of `stage_begins`, where a saved training goes on in mid-stage."""

    def step_done(self, images: int) -> None:
        """After a step on so many photos."""

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """After an epoch; `state.best` is up to date."""

    def stage_done(self, ended: Ended) -> None:
        """After a stage's last epoch."""

    def halved(self, halved: Halved) -> None:
        """After a step that ran out of memory and was done with smaller micro-batches."""


class Keeper(Protocol):
    """Saves where the training stands, so that another process can go on from there."""

    def is_due(self) -> bool:
        """Whether the last time is long enough ago; asked after each step."""

    def keep(self, model: nn.Module, state: State, under_way: UnderWay) -> None:
        """Saves."""


class _NoKeeper:
    """For a training that nobody goes on with."""

    def is_due(self) -> bool:
        """Never."""
        return False

    def keep(self, model: nn.Module, state: State, under_way: UnderWay) -> None:
        """Saves nothing."""


NO_KEEPER = _NoKeeper()
