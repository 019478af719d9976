"""How a command ends: errors as messages and exit codes; streams that are closed, full or not read."""

import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from fieldguide.errors import FieldguideError, MachineError, UsageError, shown, speaking_flags

INTERRUPTED = 130
UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)  # caused by a path that a person gave
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Turns errors that a person can fix into a message and an exit code; our own bugs keep their traceback."""
    try:
        with speaking_flags():
            code = command() or 0
        _flush(sys.stdout)
    except FieldguideError as error:
        return _complain(error)
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _write_nowhere(sys.stdout)  # the reader has gone: no error
        return 0
    except OSError as error:
        if refused := _refusal(error):
            return _complain(refused)
        raise
    return code


def open_missing_streams() -> None:
    """Opens stdout and stderr if they are closed (`>&-`), so that no other file gets their numbers."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _refusal(error: OSError) -> FieldguideError | None:
    """What the system refused without a bug of ours: a path, or space for the output."""
    if error.filename is not None and error.errno in UNREACHABLE:
        return UsageError(f"{error.filename}: cannot be reached ({error.strerror})")
    if error.filename is not None and error.errno == errno.EROFS:
        return UsageError(f"{error.filename}: cannot be written ({error.strerror}); choose a writable place")
    if error.filename is None and error.errno in FULL:
        _write_nowhere(sys.stdout)
        return MachineError(f"the output cannot be written ({error.strerror})")
    return None


def _complain(error: FieldguideError) -> int:
    for problem in error.problems:
        _tell(f"error: {shown(problem)}")
    return error.exit_code


def _tell(text: str) -> None:
    """Writes to stderr; if nobody reads it, the exit code must do."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _write_nowhere(sys.stderr)


def _flush(stream: TextIO) -> None:
    """Flushes here, so that a reader who has gone is noticed and changes no exit code; a full disk raises OSError."""
    try:
        stream.flush()
    except OSError as error:
        _write_nowhere(stream)
        if error.errno in FULL:
            raise


def _write_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
