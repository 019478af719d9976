"""The look at the photos as a part of the command's minutes: what it takes, and what is left out for it."""

import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.findings import Remark, Topic
from fieldguide.errors import counted, duration

TO_COMPARE, AT_LEAST = 0.1, 2.0  # share of the time left, and seconds, to look for near duplicates
KNOWN_AFTER = 2.0  # seconds, after which the speed of the look is known
MOST_WITH_PRINTS = 0.25  # of the time left; a look that takes more makes no prints, which are two thirds of its work
BUSY = 0.5  # of a core; with less it waits for the disk, and leaving out prints gains nothing
MOST_TO_LOOK = 0.5  # of the time left; a look that takes more is told at once


class InTime:
    """Watches a look at photos; `seconds_left` is of the command (None: no limit, and nothing is watched)."""

    def __init__(
        self, screen: Screen, seconds_left: Callable[[], float] | None, *, needs_near_duplicates: bool = False
    ) -> None:
        """If it `needs_near_duplicates`, photos get their prints however long that takes."""
        self._screen, self._left = screen, seconds_left
        self._may_hurry = not needs_near_duplicates
        self._is_told = seconds_left is None
        self._end: float | None = None  # of comparing photos
        self._was_late = self._hurries = False

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """As `Screen.counting`; in the first thing that is counted, the look, it hurries or tells where it is slow."""
        began, busy, done, rest = time.monotonic(), time.process_time(), 0, total
        with self._screen.counting(what, total) as advance:

            def count(more: int) -> None:
                nonlocal began, done, rest
                done += more
                advance(more)
                gone = time.monotonic() - began
                if self._is_told or gone < KNOWN_AFTER:
                    return
                takes, is_busy = gone * rest / done, time.process_time() - busy >= BUSY * gone
                if self._may_hurry and is_busy and takes > MOST_WITH_PRINTS * (self._seconds_left() + gone):
                    self._may_hurry, self._hurries = False, True
                    began, done, rest = time.monotonic(), 0, rest - done  # how fast it is without prints
                else:
                    self._tell(what, takes, self._seconds_left() + gone)

            yield count
        self._is_told = True

    def _seconds_left(self) -> float:
        return 0.0 if self._left is None else self._left()

    def _tell(self, what: str, seconds: float, left: float) -> None:
        self._is_told = True
        if seconds > MOST_TO_LOOK * left:
            minutes = math.ceil((seconds / MOST_TO_LOOK - left) / 60)
            self._screen.warn(
                f"{what} takes about {duration(seconds)} of the {duration(max(0.0, left))} that are left; for a better "
                f"model give it {counted(minutes, 'minute')} more"
            )

    def hurries(self) -> bool:
        """Whether photos get no prints, so that more of the time is left to train."""
        return self._hurries

    def is_late(self) -> bool:
        """Whether to end the search for near duplicates; its time begins with the first call."""
        if self._left is None:
            return False
        if self._end is None:
            self._end = time.monotonic() + max(AT_LEAST, TO_COMPARE * self._left())
        self._was_late = time.monotonic() > self._end
        return self._was_late

    def remarks(self, root: Path) -> list[Remark]:
        """What was left out."""
        if not (self._was_late or self._hurries):
            return []
        words = (
            "not all near duplicates were looked for, because the time is short; some may be in two parts. To look for "
            f"all: fieldguide check {shlex.quote(str(root))}"
        )
        return [Remark(Topic.NOT_COMPARED, words)]
