"""Where a training ends however well it learns: its minutes and its epochs."""

import time

from fieldguide.training.plan import Plan
from fieldguide.training.state import State


class Limits:
    """The plan's limits over the epochs of all processes; extra epochs that a person asked for have none."""

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan, self._state = plan, state
        self._began = time.perf_counter() - sum(epoch.seconds for epoch in state.history)

    def count_earlier(self, seconds: float) -> None:
        """Counts what an earlier process spent on the epoch that resumes."""
        self._began -= seconds

    def is_out_of_time(self) -> bool:
        """Whether time is up; asked only where there is more to do, since a training that just fits is not cut.

        Something is always trained: it is asked after the first step, and between epochs only if there is one.
        """
        limit = None if self._state.more else self._plan.max_seconds
        if limit is not None and time.perf_counter() - self._began > limit:
            self._state.out_of_time = True
        return self._state.out_of_time

    def is_used_up(self) -> bool:
        """Whether all epochs were trained that the training may have."""
        limit = None if self._state.more else self._plan.max_epochs
        return limit is not None and len(self._state.history) >= limit
