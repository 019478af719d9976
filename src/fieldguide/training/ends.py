"""Why a stage or a training ended: a kind and numbers, which decide, and the sentences made from them for people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from fieldguide.errors import FieldguideError, NotFiniteError, PhotosError


class Reason(StrEnum):
    """Why a stage ended."""

    CONVERGED = "converged"
    SOLVED = "solved"
    MAX_EPOCHS = "max_epochs"
    TRAINING_MAX_EPOCHS = "training_max_epochs"
    OUT_OF_TIME = "out_of_time"
    STOPPED = "stopped"


class Cause(StrEnum):
    """What stopped a training before its end."""

    SIGNAL = "signal"
    NOT_FINITE = "not_finite"
    PHOTOS = "photos"
    CALLBACK = "callback"
    ERROR = "error"


@dataclass(frozen=True)
class Stopped:
    """What stopped a training before its end; only the fields of its cause are set."""

    cause: Cause
    signal: str = ""  # its name, such as `SIGTERM`
    what: str = ""  # was not finite: `loss`, `validation loss`, or the name of a weight
    epoch: int = 0  # where that was found, from 1
    step: int = 0  # from 1; 0: not in a step
    photos: tuple[str, ...] = ()  # names in that step's batch
    message: str = ""  # of an error, or of a callback that failed

    @property
    def is_spoilt(self) -> bool:
        """Whether resuming would fail again: the loss or a weight was not finite."""
        return self.cause is Cause.NOT_FINITE

    def sentence(self) -> str:
        """For people; nothing is decided by it."""
        if self.cause is Cause.SIGNAL:
            return f"interrupted by {self.signal}"
        return self._not_finite() if self.is_spoilt else self.message

    def _not_finite(self) -> str:
        place = f"epoch {self.epoch}" + (f", step {self.step}" if self.step else "")
        others = f" and {len(self.photos) - 3} more" if len(self.photos) > 3 else ""
        photos = f" (photos {', '.join(self.photos[:3])}{others})" if self.photos else ""
        return (
            f"the {self.what} is not finite in {place}{photos}; try a lower training.learning_rate, "
            "training.gradient_clip_norm=1, or execution=exact"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data: `kind`, the fields that are set, and the sentence as `text`."""
        own = {name: value for name, value in asdict(self).items() if value and name != "cause"}
        own |= {"photos": list(self.photos)} if self.photos else {}
        return {"kind": str(self.cause), **own, "text": self.sentence()}


class NotFinite(NotFiniteError):
    """A loss or a weight that is not finite; arguments as in `Stopped`."""

    def __init__(self, what: str, epoch: int, step: int = 0, photos: Sequence[str] = ()) -> None:
        self.stopped = Stopped(Cause.NOT_FINITE, what=what, epoch=epoch, step=step, photos=tuple(photos))
        super().__init__(self.stopped.sentence())

    def __reduce__(self) -> tuple[type["NotFinite"], tuple[str, int, int, tuple[str, ...]]]:
        return type(self), (self.stopped.what, self.stopped.epoch, self.stopped.step, self.stopped.photos)


def stopped_by(error: FieldguideError) -> Stopped:
    """What an error stopped."""
    if isinstance(error, NotFinite):
        return error.stopped
    return Stopped(Cause.PHOTOS if isinstance(error, PhotosError) else Cause.ERROR, message=str(error))


def reason_of_format_1(sentence: str) -> Reason:
    """The kind behind a sentence that checkpoints of format 1 hold."""
    if sentence.startswith("converged"):
        return Reason.CONVERGED
    known = {
        "solved": Reason.SOLVED,
        "its most epochs": Reason.MAX_EPOCHS,
        "the training's most epochs": Reason.TRAINING_MAX_EPOCHS,
        "the time was up": Reason.OUT_OF_TIME,
    }
    return known.get(sentence, Reason.STOPPED)
