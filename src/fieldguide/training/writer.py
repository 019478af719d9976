"""Writes files in a thread while a training goes on, one at a time, and knows what that cost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Writer:
    """Runs one write after the other, at once or in a thread; an error of the thread is raised in the next call."""

    def __init__(self, *, in_background: bool) -> None:
        self.in_background = in_background
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._count, self._bytes, self._seconds, self._held_up = 0, 0, 0.0, 0.0

    def write(self, what: Callable[[], int]) -> None:
        """Calls `what`, which returns the bytes it wrote."""
        if not self.in_background:
            self._run(what)
            return
        self._thread = threading.Thread(target=self._run_in_thread, args=(what,), name="checkpoint")
        self._thread.start()

    def _run(self, what: Callable[[], int]) -> None:
        began = time.perf_counter()
        self._bytes = what()
        self._seconds += time.perf_counter() - began
        self._count += 1

    def _run_in_thread(self, what: Callable[[], int]) -> None:
        try:
            self._run(what)
        except BaseException as error:  # raised where the training goes on
            self._error = error

    def demand_no_error(self) -> None:
        """Raises what a write raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Waits for the write under way; raises what it raised."""
        self.end()
        self.demand_no_error()

    def end(self) -> None:
        """Waits for the write under way."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    @contextmanager
    def holding_up(self) -> Iterator[None]:
        """Counts the time inside as time for which the training stood still."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._held_up += time.perf_counter() - began

    def told(self) -> dict[str, Any]:
        """Writes so far, bytes of the last one, seconds in all, and seconds for which the training stood still."""
        return {
            "written": self._count,
            "bytes": self._bytes,
            "seconds": self._seconds,
            "held_up_seconds": self._held_up,
        }
