"""The order of a training: phases, then rounds while they help."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fieldguide.settings import ResolvedPhase, ResolvedRounds
from fieldguide.training.ends import Reason


class Stage(ResolvedPhase):
    """A phase of the recipe, or a round: like the last phase, but from the best model and at a lower rate."""

    kind: Literal["phase", "round"]

    @property
    def label(self) -> str:
        """`phase standard`, `round 1`."""
        return self.name if self.kind == "round" else f"phase {self.name}"

    @property
    def epochs(self) -> float:
        """How many it has in all, as far as is planned."""
        return self.replanned[-1][1] if self.replanned else self.max_epochs

    @property
    def epochs_before_a_cut(self) -> float:
        """How many were planned last, also where time ended it before that."""
        planned = [epochs for after, epochs in self.replanned if after < epochs]
        return planned[-1] if planned else self.max_epochs

    def batches(self, an_epoch: int, done: int) -> int:
        """How many batches it has in all, by what was planned after `done` of them."""
        known = [self.max_epochs, *(epochs for after, epochs in self.replanned if round(after * an_epoch) <= done)]
        return round(known[-1] * an_epoch)

    def end_of_epoch(self, an_epoch: int, done: int) -> int:
        """After which batch of the stage the epoch ends that begins after `done`: within it where the stage ends."""
        cuts = [round(epochs * an_epoch) for after, epochs in self.replanned if after == epochs]
        return min([done + an_epoch, self.batches(an_epoch, done), *cuts])

    def patience(self, epochs_done: int) -> int:
        """A plan that grew waits longer, as long as it was told to be patient to its end."""
        known = [epochs for after, epochs in self.replanned if after <= epochs_done]
        waits_for_all = self.patience_epochs >= self.max_epochs
        return max([self.patience_epochs, *(math.ceil(epochs) for epochs in known if waits_for_all)])

    def again(self, after: float, epochs: float) -> "Stage":
        """The stage with so many epochs in all, decided after so many."""
        return self.model_copy(update={"replanned": (*self.replanned, (after, epochs))})


@dataclass(frozen=True)
class Pace:
    """What a plan that was made for this machine expected of it."""

    probe_seconds: float
    epoch_seconds: float  # of what the steps train, with its validation
    most_epochs: int  # however much time there is
    view_seconds: float = 0.0  # of a probe, to send each photo through the network once
    fitting_seconds: float = 0.0  # to fit its head, however few photos there are
    solving_seconds: float = 0.0  # that one view adds to that
    further_seconds: float = 0.0  # that each further view adds
    validation_seconds: float = 0.0  # after it; the time for the training is without it
    fewest_of_an_epoch: float = 0.5  # that is worth a stage
    is_spare: bool = False  # whether its epochs were planned only for time that the probe may leave


@dataclass(frozen=True)
class Plan:
    """The whole training."""

    phases: tuple[Stage, ...]  # each but the first starts from the best model so far
    rounds: ResolvedRounds  # after the phases
    max_epochs: int | None  # in all stages together
    best_by: str  # `validation_loss` or `validation_accuracy`
    max_seconds: float | None = None  # in all epochs together; the epoch ends when they are used up
    ema_decay: float | None = None  # of the moving average, which is judged and kept instead of the weights
    soup_candidates: int = 0  # how many of the best epochs are kept for a greedy soup at the end; 0: no soup
    averages_with_probe: bool = False  # whether the mean of the best epoch and the probe, the first phase, is tried
    metric: str = "accuracy"  # or `macro_accuracy`
    pace: Pace | None = None  # None: the epochs are a person's, and are not planned again

    def most_epochs(self) -> int:
        """The most epochs it can have."""
        phases = sum(math.ceil(stage.epochs) for stage in self.phases)
        planned = phases + self.rounds.max_rounds * self.rounds.max_epochs
        return planned if self.max_epochs is None else min(planned, self.max_epochs)


@dataclass(frozen=True)
class Ended:
    """A stage that ended: whether it made a new best model, and why it ended."""

    stage: Stage
    epochs: int
    improved: bool
    reason: Reason

    def sentence(self) -> str:
        """Why it ended, for people; nothing is decided by it."""
        stage = self.stage
        return {
            Reason.CONVERGED: f"converged (no gain of {stage.min_improvement:g} in {stage.patience_epochs} epochs)",
            Reason.SOLVED: "solved",
            Reason.MAX_EPOCHS: "reached max_epochs",
            Reason.TRAINING_MAX_EPOCHS: "reached training.max_epochs",
            Reason.OUT_OF_TIME: "out of time",
            Reason.STOPPED: "stopped",
        }[self.reason]


@dataclass(frozen=True)
class More:
    """Extra epochs requested after a training was done: a further stage after this many stages."""

    after_stages: int
    epochs: int


def next_stage(plan: Plan, ended: Sequence[Ended], more: Sequence[More] = ()) -> Stage | None:
    """The next stage, or None; a round without a better model is the last, and extra epochs come after that."""
    for number, extension in enumerate(more, start=1):
        if extension.after_stages == len(ended):
            epochs = extension.epochs  # all are trained, since a person asked for them
            return _round(plan, ended[-1].stage, f"more epochs {number}", epochs, epochs)
    if more and len(ended) > more[0].after_stages:
        return None
    if len(ended) < len(plan.phases):
        return plan.phases[len(ended)]
    done, last, rounds = len(ended) - len(plan.phases), ended[-1], plan.rounds
    if done >= rounds.max_rounds or (done and not last.improved):
        return None
    return _round(plan, last.stage, f"round {done + 1}", rounds.max_epochs, rounds.patience_epochs)


def _round(plan: Plan, last: Stage, name: str, max_epochs: int, patience_epochs: int) -> Stage:
    """As the last phase, with what rounds have of their own; a round takes steps, also after a probe."""
    rounds = plan.rounds
    return plan.phases[-1].model_copy(
        update={
            "kind": "round",
            "name": name,
            "method": "gradient",
            "augmentation": rounds.augmentation,
            "max_epochs": max_epochs,
            "learning_rate": last.learning_rate * rounds.learning_rate_factor,
            "min_improvement": rounds.min_improvement,
            "patience_epochs": patience_epochs,
            "replanned": (),
        }
    )


@dataclass
class Convergence:
    """Notices when the validation loss stops improving."""

    min_improvement: float
    patience_epochs: int
    lowest: float = float("inf")
    waited: int = 0

    @property
    def is_reached(self) -> bool:
        """Whether `patience_epochs` passed without `min_improvement`."""
        return self.waited >= self.patience_epochs

    def take(self, validation_loss: float) -> None:
        """Takes an epoch's validation loss."""
        if validation_loss <= self.lowest - self.min_improvement:
            self.lowest, self.waited = validation_loss, 0
        else:
            self.waited += 1
