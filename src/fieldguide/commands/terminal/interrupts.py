"""Signals during a training: the step is finished and all is saved; a second SIGINT stops at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from fieldguide.errors import SIGNAL_EXIT_CODES, Interrupted
from fieldguide.training.ends import Cause, Stopped


class Interrupts:
    """Notes signals within its `with` block; elsewhere, and outside the main thread, they act as usual.

    `received` is the name of the last signal, or empty; `at_once` makes a signal stop at once, as there is no step to
    finish.
    """

    def __init__(self) -> None:
        self.received = ""
        self.at_once = False
        self._before: dict[int, object] = {}

    def reason(self) -> Stopped | None:
        """Why to stop; None: no signal came."""
        return Stopped(Cause.SIGNAL, signal=self.received) if self.received else None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for name in SIGNAL_EXIT_CODES:  # SIGHUP: the terminal went away
                number = getattr(signal, name, None)  # not every system has SIGHUP
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.received)
        self.received = signal.Signals(number).name
        if self.at_once or (again and number == signal.SIGINT):
            raise KeyboardInterrupt(self.received)


@contextlib.contextmanager
def ending_at_once(what: Callable[[], str]) -> Iterator[None]:
    """Any signal raises Interrupted, so that nothing half-written stays; `what` gives the consequence, in words."""
    with Interrupts() as interrupts:
        interrupts.at_once = True
        try:
            yield
        except KeyboardInterrupt as error:
            name = str(error) or "SIGINT"
            raise Interrupted(name, f"interrupted by {name}; {what()}") from None
