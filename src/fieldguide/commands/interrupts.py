"""SIGINT and SIGTERM while a training runs: the step is finished and what is good is kept; a second SIGINT stops."""

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


class Interrupts:
    """Notes signals while it is entered; elsewhere, and outside the main thread, they do what they always do."""

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[int, object] = {}

    def reason(self) -> str:
        """Why to stop, or an empty text."""
        return f"interrupted by {self.received}" if self.received else ""

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
