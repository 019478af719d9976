"""The errors that a user can fix, as a tree. Each message says what happened, where, and what to do.

Messages are written with the flags of the command line; the library says its arguments' names instead (`worded`).

FieldguideError            (a ValueError; carries the exit code of the command line)
├── UsageError        2    wrong arguments, paths or recipe; may hold several mistakes at once
├── PhotosError       1    a problem with the photos
├── TrainingError     1    the training failed (a loss that is not finite, a callback that failed)
├── ProofError        1    an exported model answers differently from the trained one; no export is left
├── MachineError      1    a problem with the machine: full disk, out of memory, a worker that died
└── Interrupted            a signal ended it (129, 130 or 143)
"""

import contextlib
import math
import re
from collections.abc import Iterator, Sequence

# controls but the newline, marks that turn the reading order, line separators, what is no character
NOT_SHOWN = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# a command that a message tells to type stays as it is; so does what a flag is set to
FLAG = re.compile(r"fieldguide [a-z]+ [^;\n]*|(?<![\w/-])(--[a-z][a-z0-9-]*|-o)(?![\w-])( [\w.]+=[\w.+-]+)?")
ARGUMENTS = {  # of flags that are not called as they are; the others only lose their dashes
    "-o": "output",
    "--resume": "run",
    "--csv": "csv_file",
    "--html": "html_file",
    "--json": "json_file",
    "--markdown": "markdown_file",
    "--photos": "photos_folder",
}
_speaks_flags = False


@contextlib.contextmanager
def speaking_flags() -> Iterator[None]:
    """Messages that are made inside are for the command line."""
    global _speaks_flags
    before, _speaks_flags = _speaks_flags, True
    try:
        yield
    finally:
        _speaks_flags = before


def speaks_flags() -> bool:
    """Whether messages are for the command line; for another process that is to speak alike."""
    return _speaks_flags


def worded(text: str) -> str:
    """A message with the arguments' names of the library, unless the command line is being spoken to."""
    return text if _speaks_flags else FLAG.sub(_as_argument, text)


def _as_argument(found: re.Match[str]) -> str:
    flag, value = found.groups(default="")
    if not flag:
        return found[0]
    if flag == "--set":
        return f'overrides=["{value.strip()}"]' if value else "overrides"
    return ARGUMENTS.get(flag, flag.removeprefix("--").replace("-", "_")) + value


class FieldguideError(ValueError):
    """An error that a user can fix; it is shown without a traceback.

    Args:
        problems: one message per mistake; all that were found, not only the first.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems: Sequence[str] = tuple(map(worded, problems))
        super().__init__("\n".join(self.problems))


class UsageError(FieldguideError):
    """Wrong arguments, paths or recipe; may hold several mistakes at once."""

    exit_code = 2

    def __reduce__(self) -> tuple[type["UsageError"], tuple[str, ...]]:
        return type(self), tuple(self.problems)  # from another process it comes with each mistake of its own


class PhotosError(FieldguideError):
    """A problem with the photos: unreadable, none there, the same photo in two parts."""

    exit_code = 1


class TrainingError(FieldguideError):
    """The training failed; the best model so far is kept."""

    exit_code = 1


class NotFiniteError(TrainingError):
    """A loss or a weight is not finite; resuming would fail again."""


class ProofError(FieldguideError):
    """An exported model answers differently from the trained one; no export is left."""

    exit_code = 1


class MachineError(FieldguideError):
    """A problem with the machine: full disk, out of memory, a worker that died; what was saved is kept."""

    exit_code = 1


SIGNAL_EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


class Interrupted(FieldguideError):
    """A signal (`SIGINT`, `SIGTERM` or `SIGHUP`) ended the command before there was a result."""

    def __init__(self, signal_name: str, message: str) -> None:
        self.signal_name = signal_name
        self.exit_code = SIGNAL_EXIT_CODES[signal_name]
        super().__init__(message)

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, str]]:
        return type(self), (self.signal_name, str(self))


def shown(text: str) -> str:
    """A message for a terminal, with control characters and direction marks in names escaped."""
    return NOT_SHOWN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def counted(number: int, thing: str) -> str:
    """`1 photo`, `2 photos`, `3 classes`."""
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def shown_rate(rate: float) -> str:
    """A learning rate as a person would write it, 0.000125 in full; one of a cosine, with two digits."""
    full = f"{rate:.6g}"
    return full if math.isclose(float(full), rate, rel_tol=1e-9) else f"{rate:.2g}"


def listing(lines: Sequence[str], most: int = 10) -> str:
    """The first lines, indented, and how many more there are."""
    shown = [f"  {line}" for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"  ... and {len(lines) - most:,} more")
    return "\n".join(shown)
