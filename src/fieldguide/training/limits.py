"""Where a training ends however well it learns: its minutes and its epochs; and how many epochs the minutes allow."""

import time

from fieldguide.training.budget import epochs_again
from fieldguide.training.ends import Reason
from fieldguide.training.plan import Plan, Stage
from fieldguide.training.state import State
from fieldguide.training.under_way import UnderWay

SLOWER = 4.0  # at most, of what a probe says of the pace of the epochs after it; that it was quick says nothing


class Limits:
    """The plan's limits over the epochs of all processes; extra epochs that a person asked for have none."""

    def __init__(self, plan: Plan, state: State, an_epoch: int) -> None:
        """`an_epoch` has so many batches."""
        self._plan, self._state, self._an_epoch = plan, state, an_epoch
        self._began = time.perf_counter() - sum(epoch.seconds for epoch in state.history)

    def count_earlier(self, seconds: float) -> None:
        """Counts what an earlier process spent on the epoch that resumes."""
        self._began -= seconds

    def seconds_left(self) -> float | None:
        """None: no limit."""
        limit = None if self._state.more else self._plan.max_seconds
        return None if limit is None else limit - (time.perf_counter() - self._began)

    def is_out_of_time(self, needed: float = 0.0) -> bool:
        """Whether no more than the needed seconds are left; asked only where there is more to do.

        So a training that just fits is not cut. Something is always trained: it is asked after the first step, and
        between epochs only if there is one.
        """
        left = self.seconds_left()
        if left is not None and left < needed:
            self._state.out_of_time = True
        return self._state.out_of_time

    def ends_probe(self, stage: Stage, batches: int, seconds: float) -> bool:
        """Whether a probe makes do with so many batches, after so many seconds: time is up, or no view fits.

        Time is kept to fit the head to them. One that was cut before is cut there again.
        """
        if stage.replanned:
            return batches >= round(stage.epochs * self._an_epoch)
        pace, left = self._plan.pace, self.seconds_left()
        if pace is None or left is None:
            return self.is_out_of_time()
        views, rest = divmod(batches, self._an_epoch)
        a_view = seconds / batches * self._an_epoch
        slower = min(SLOWER, max(1.0, a_view / pace.view_seconds)) if pace.view_seconds else 1.0
        first, further = min(1.0, batches / self._an_epoch), max(0, views - 1)
        solving = pace.fitting_seconds + first * pace.solving_seconds + further * pace.further_seconds
        after = solving + (slower - 1) * pace.validation_seconds  # which has its own time, at the plan's pace
        if self.is_out_of_time(after):
            return True
        return not rest and a_view + pace.further_seconds + after > left

    def is_used_up(self) -> bool:
        """Whether all epochs were trained that the training may have."""
        limit = None if self._state.more else self._plan.max_epochs
        return limit is not None and len(self._state.history) >= limit

    def is_too_late_for(self, stage: Stage) -> bool:
        """Whether there is no time to begin a stage."""
        if self.planned_again(stage, 0).epochs == 0:
            if self._plan.pace is not None and self._plan.pace.is_spare:
                return True  # the plan did not promise it
            self._state.out_of_time = True
        return self.is_out_of_time()

    def why_it_ends(self, under_way: UnderWay) -> Reason | None:
        """Between two epochs of a stage; None: it goes on."""
        done = under_way.epochs * self._an_epoch
        if self._state.out_of_time:  # within the epoch
            return Reason.OUT_OF_TIME
        if under_way.convergence.is_reached:
            return Reason.CONVERGED
        if done >= under_way.stage.batches(self._an_epoch, done):
            return Reason.SOLVED if under_way.stage.method == "probe" else Reason.MAX_EPOCHS
        if self.is_used_up():
            return Reason.TRAINING_MAX_EPOCHS
        return Reason.OUT_OF_TIME if self._state.history and self.is_out_of_time() else None

    def planned_again(self, stage: Stage, done: int) -> Stage:
        """The stage itself, or with another number of epochs, where by the pace so far the time allows that.

        The pace is that of its last epoch. Before its first, it is what the plan expected, by as much slower as the
        probe was.
        """
        pace, left, history = self._plan.pace, self.seconds_left(), self._state.history
        if pace is None or left is None or not history or stage.method == "probe":
            return stage
        last = history[-1]
        seconds = last.seconds
        validation = max(0.0, seconds - last.training.images / max(last.images_per_second, 1e-9))
        if done == 0:
            is_probed = self._state.ended[-1].stage.method == "probe"
            slower = seconds / max(pace.probe_seconds, 1e-9) if is_probed else 1.0
            slower = min(SLOWER, max(1.0, slower))
            seconds, validation = pace.epoch_seconds * slower, pace.validation_seconds * slower
        fits = epochs_again(done, stage.epochs, seconds, left, pace.most_epochs, validation, pace.fewest_of_an_epoch)
        return stage if fits == stage.epochs else stage.again(done, fits)
