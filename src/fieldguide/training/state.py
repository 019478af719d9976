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
    """Counts over photos; divided only once, at the end.

    Attributes:
        images: how many photos.
        loss_sum: cross-entropy in nats, summed.
        correct: how many were right.
        class_images: photos per class; empty if not counted by class.
        class_correct: right answers per class.
    """

    images: int
    loss_sum: float
    correct: int
    class_images: tuple[int, ...] = ()
    class_correct: tuple[int, ...] = ()

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
        recalls = [
            right / images for images, right in zip(self.class_images, self.class_correct, strict=True) if images
        ]
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
    """A finished step.

    Attributes:
        epoch, step: from 1; steps within the epoch.
        images: in its batch.
        learning_rate: of the stage; a layer may learn at a share of it.
        loss: mean over the batch, of what is minimised.
        correct: right answers, under augmentation and dropout.
    """

    epoch: int
    step: int
    images: int
    learning_rate: float
    loss: float
    correct: int


@dataclass(frozen=True)
class Epoch:
    """One epoch's record: a line of `history.jsonl`.

    Attributes:
        epoch: counted from 1 over the whole training.
        stage_number: counted from 1.
        learning_rate: of its first step.
        training: running figures, under augmentation and dropout; for mixed images see `train_step`.
        seconds: including validation.
        images_per_second: without validation.
        best: whether its model became the best.
    """

    epoch: int
    stage_number: int
    kind: str
    stage: str
    learning_rate: float
    training: Scores
    validation: Scores
    seconds: float
    images_per_second: float
    best: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"training": self.training.to_dict(), "validation": self.validation.to_dict()}


@dataclass(frozen=True)
class Best:
    """The best model so far, or one of the best.

    Attributes:
        epoch: that made it; for a soup its best epoch, with the soup's validation figures.
        weights: a CPU copy, as the network is built.
        soup: the epochs it is the mean of; empty: no soup.
    """

    epoch: Epoch
    weights: dict[str, torch.Tensor]
    soup: tuple[int, ...] = ()


@dataclass(frozen=True)
class Soup:
    """The outcome of a greedy soup.

    Attributes:
        candidates: their epochs, best first.
        epochs: those that joined, in this order.
        before: validation figures of the best candidate alone, as the network is built.
        after: validation figures of the mean.
        is_kept: whether the mean was better and became the model.
    """

    candidates: tuple[int, ...]
    epochs: tuple[int, ...]
    before: Scores
    after: Scores
    is_kept: bool

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
    """Where the training stands.

    Attributes:
        history: every finished epoch.
        ended: every finished stage.
        best: None before the first epoch ended.
        more: extra epochs requested after the plan was done.
        stopped: why it ended early; None: it did not.
        halved: each time memory ran out.
        out_of_time: whether time ran out before the plan's end.
        candidates: for a soup, best first, `best` among them; empty without a soup, and once it is made.
        soup: its outcome; None before the end.
    """

    history: list[Epoch] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    best: Best | None = None
    more: list[More] = field(default_factory=list)
    stopped: Stopped | None = None
    halved: list[Halved] = field(default_factory=list)
    out_of_time: bool = False
    candidates: list[Best] = field(default_factory=list)
    soup: Soup | None = None

    @property
    def is_spoilt(self) -> bool:
        """Whether resuming would fail again: a loss or weights that are not finite."""
        return self.stopped is not None and self.stopped.is_spoilt


@dataclass
class Running:
    """The current epoch.

    Attributes:
        steps: how many are done.
        images, loss_sum, correct: over these steps, under augmentation and dropout.
        learning_rate: of the first step.
        seconds: spent on it by earlier processes.
        began: when this process started on it, by `time.perf_counter`.
    """

    steps: int = 0
    images: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        """Seconds spent on the epoch so far, by all processes."""
        return self.seconds + time.perf_counter() - self.began

    def add(self, images: int, loss: float, correct: int) -> None:
        """Adds a step's mean loss and its count of right answers."""
        self.images += images
        self.loss_sum += loss * images
        self.correct += correct
