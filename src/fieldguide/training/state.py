"""Everything that changes while a training runs."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from fieldguide.training.ends import Stopped
from fieldguide.training.plan import Ended, More, Plan


@dataclass(frozen=True)
class Scores:
    """Counts over photos; divided only once, at the end."""

    images: int
    loss_sum: float  # cross-entropy in nats
    correct: int
    class_images: tuple[int, ...] = ()  # photos per class; empty if not counted by class
    class_correct: tuple[int, ...] = ()  # right answers per class

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss_sum / self.images

    @property
    def accuracy(self) -> float:
        """Share that was right, in [0, 1]."""
        return self.correct / self.images

    @property
    def macro_accuracy(self) -> float | None:
        """Mean recall of the classes that have photos, in [0, 1]; None if not counted by class."""
        pairs = zip(self.class_images, self.class_correct, strict=True)
        recalls = [right / images for images, right in pairs if images]
        return math.fsum(recalls) / len(recalls) if recalls else None

    def accuracy_by(self, metric: str) -> float:
        """`accuracy` or `macro_accuracy`, in [0, 1]; the second needs counts by class."""
        if metric == "accuracy":
            return self.accuracy
        found = self.macro_accuracy
        assert found is not None, "not counted by class"
        return found

    def to_dict(self) -> dict[str, float]:
        """images, loss, accuracy; macro_accuracy if known."""
        found = {"images": self.images, "loss": self.loss, "accuracy": self.accuracy}
        macro = self.macro_accuracy
        return found if macro is None else found | {"macro_accuracy": macro}


def is_better(new: Scores, old: Scores, plan: Plan) -> bool:
    """Whether new figures beat old ones: by loss; or by the plan's accuracy, with the loss to break a tie."""
    if plan.best_by == "validation_accuracy":
        now, before = new.accuracy_by(plan.metric), old.accuracy_by(plan.metric)
        if now != before:
            return now > before
    return new.loss < old.loss


@dataclass(frozen=True)
class Step:
    """A finished step."""

    epoch: int  # from 1
    step: int  # from 1, within the epoch
    images: int  # in its batch
    learning_rate: float  # of the stage; a layer may learn at a share of it
    loss: float  # mean over the batch, of what is minimised
    correct: int  # right answers, under augmentation and dropout


@dataclass(frozen=True)
class Epoch:
    """One epoch's record: a line of `history.jsonl`."""

    epoch: int  # from 1 over the whole training
    stage_number: int  # from 1
    kind: str
    stage: str
    learning_rate: float  # of its first step
    training: Scores  # running figures, under augmentation and dropout; for mixed images see `train_step`
    validation: Scores
    seconds: float  # including validation
    images_per_second: float  # without validation
    best: bool  # whether its model became the best

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"training": self.training.to_dict(), "validation": self.validation.to_dict()}


@dataclass(frozen=True)
class Best:
    """The best model so far, or one of the best."""

    epoch: Epoch  # that made it; for a soup its best epoch, with the soup's validation figures
    weights: dict[str, torch.Tensor]  # a CPU copy, as the network is built
    soup: tuple[int, ...] = ()  # the epochs it is the mean of; empty: no soup


@dataclass(frozen=True)
class Soup:
    """The outcome of a greedy soup."""

    candidates: tuple[int, ...]  # their epochs, best first
    epochs: tuple[int, ...]  # those that joined, in this order
    before: Scores  # validation figures of the best candidate alone, as the network is built
    after: Scores  # validation figures of the mean
    is_kept: bool  # whether the mean was better and became the model

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        own = asdict(self) | {"before": self.before.to_dict(), "after": self.after.to_dict()}
        return own | {"candidates": list(self.candidates), "epochs": list(self.epochs)}


@dataclass(frozen=True)
class Halved:
    """Memory ran out in a step; from then on this many photos went through the network at once."""

    epoch: int
    step: int
    photos: int


@dataclass
class State:
    """Where the training stands."""

    history: list[Epoch] = field(default_factory=list)  # every finished epoch
    ended: list[Ended] = field(default_factory=list)  # every finished stage
    best: Best | None = None  # None before the first epoch ended
    more: list[More] = field(default_factory=list)  # extra epochs requested after the plan was done
    stopped: Stopped | None = None  # why it ended early
    halved: list[Halved] = field(default_factory=list)  # each time memory ran out
    out_of_time: bool = False  # whether time ran out before the plan's end
    candidates: list[Best] = field(default_factory=list)  # for a soup, best first, `best` among them, until it is made
    soup: Soup | None = None  # None before the end
    scaling: dict[str, float] | None = None  # of fp16's gradients; None in another precision
    skipped: list[tuple[int, int]] = field(default_factory=list)  # (epoch, steps) whose fp16 gradients overflowed

    @property
    def is_spoilt(self) -> bool:
        """Whether resuming would fail again: a loss or weights that are not finite."""
        return self.stopped is not None and self.stopped.is_spoilt


@dataclass
class Running:
    """The current epoch."""

    steps: int = 0  # how many are done
    images: int = 0  # in these steps; the sums, too, are over them, under augmentation and dropout
    loss_sum: float = 0.0
    correct: int = 0
    learning_rate: float = 0.0  # of the first step
    seconds: float = 0.0  # spent on it by earlier processes
    began: float = field(default_factory=time.perf_counter)  # when this process started on it

    def elapsed(self) -> float:
        """Seconds spent on the epoch so far, by all processes."""
        return self.seconds + time.perf_counter() - self.began

    def add(self, images: int, loss: float, correct: int) -> None:
        """Adds a step's mean loss and its count of right answers."""
        self.images += images
        self.loss_sum += loss * images
        self.correct += correct
