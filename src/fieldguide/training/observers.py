"""Who is told what happens in a training: the display, the recorder, the checkpoints, and callbacks of the caller."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fieldguide.errors import UsageError
from fieldguide.training.ends import Cause, Stopped
from fieldguide.training.plan import Ended, Stage
from fieldguide.training.state import Epoch, Halved, Running, State, Step
from fieldguide.training.under_way import UnderWay


@dataclass(frozen=True)
class Beginning:
    """What a run is about to train."""

    folder: Path  # the run
    recipe_name: str  # a preset, or the name of a file
    recipe: Mapping[str, Any]  # resolved, as plain data
    classes: Sequence[str]  # their names, in the order of the network's outputs
    photos: Mapping[str, int]  # how many, by part (`train`, `val`, ...)
    device: str
    epochs_done: int  # 0 in a new run; in a resumed one, the epochs before this process


class Callback:
    """Is told what happens in a training. Override the methods you need; each does nothing by itself.

    Only read what you are given: it is the training's own. A cross-validation tells each fold as a run.
    """

    def run_begins(self, beginning: Beginning) -> None:
        """Before the first step of this process."""

    def stage_begins(self, stage: Stage, state: State) -> None:
        """Before a stage's first epoch."""

    def stage_resumes(self, stage: Stage, state: State, running: Running) -> None:
        """In place of `stage_begins`, where a saved training resumes within a stage."""

    def planned_again(self, stage: Stage) -> None:
        """Before a stage or after one of its epochs, where the time allows another number of epochs than planned."""

    def step_done(self, images: int) -> None:
        """Right after a step on so many photos; a GPU may still be computing it."""

    def losses_known(self, steps: Sequence[Step]) -> None:
        """With the steps since the last call: one on a CPU, up to 16 on a GPU, so that no step waits for its loss."""

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """After an epoch and its validation; `state.best` is up to date."""

    def stage_done(self, ended: Ended) -> None:
        """After a stage's last epoch."""

    def halved(self, halved: Halved) -> None:
        """After a step that ran out of memory and was repeated with smaller micro-batches."""

    def skipped(self, epoch: int, steps: int) -> None:
        """After steps that changed nothing, because their fp16 gradients overflowed."""

    def is_due(self) -> bool:
        """Asked after each step: whether you want `save` to be called now."""
        return False

    def save(self, model: nn.Module, state: State, under_way: UnderWay) -> None:
        """After each epoch, when due, and when the training is stopped: all that another process needs to resume."""

    def training_done(self, state: State) -> None:
        """After the last stage; `state.stopped` says whether that was before its end. The model is not judged yet."""

    def run_done(self, result: Mapping[str, Any]) -> None:
        """After the model was judged, with the content of `result.json`; also if a signal stopped the training."""

    def run_failed(self, error: BaseException) -> None:
        """In place of `run_done`, where an error ends the run."""


def demand_callbacks(callbacks: object) -> None:
    """Raises UsageError unless it is a list of `Callback` objects: before anything is written."""
    if not isinstance(callbacks, Sequence):
        raise UsageError("callbacks must be a list of Callback objects; put a single one into [ ]")
    if wrong := [each for each in callbacks if not isinstance(each, Callback)]:
        raise UsageError(f"callbacks: {wrong[0]!r} is not an object of a subclass of fieldguide.Callback")


class Observers:
    """Tells all of them; `own` are parts of this program, and an error in one is an error of the training.

    If a callback of the caller raises an exception, none of them is told any more, and the training stops after its
    step as on a signal, with all saved; `error` and `stopped` say so.
    """

    def __init__(self, own: Sequence[Callback], callbacks: Sequence[Callback] = ()) -> None:
        self.own = own
        self.callbacks = callbacks
        self.error: Exception | None = None
        self.stopped: Stopped | None = None

    def tell(self, what: Callable[[Callback], object]) -> None:
        """Calls `what` with each of them."""
        for each in self.own:
            what(each)
        for callback in self.callbacks:
            if self.error is not None:
                return
            try:
                what(callback)
            except Exception as error:  # whatever another person's code raises
                told = f"callback {type(callback).__name__} failed ({type(error).__name__}: {error})"
                self.error, self.stopped = error, Stopped(Cause.CALLBACK, message=told)

    def is_due(self) -> bool:
        """Whether one of them wants to save now."""
        due: list[bool] = []
        self.tell(lambda each: due.append(each.is_due()))
        return any(due)

    def run_failed(self, error: BaseException) -> None:
        """Tells every callback, also after one failed; what they raise is noted in the error and hides nothing."""
        for callback in self.callbacks:
            try:
                callback.run_failed(error)
            except Exception as another:
                error.add_note(f"callback {type(callback).__name__} failed too ({type(another).__name__}: {another})")
