"""A file's bytes, or those of the photo of an archive that it stands for."""

import errno
import os
import shutil
import stat
import time
from pathlib import Path

from fieldguide.data.read.member import is_inside, read_inside, stands_for_photo
from fieldguide.data.read.unreadable import UnreadableError, demand_not_lost

MAX_FILE_BYTES = 2**29
PAUSES_S = (0.1, 0.5, 2.0)
MAY_PASS = {
    number
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "EREMOTEIO", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN")
    if (number := getattr(errno, name, None)) is not None
}


def read_bytes(path: Path) -> bytes:
    """A regular file's content; tried again after errors of a device or a network, which may pass.

    Raises UnreadableError if it is not a regular file, empty or too large, or the system refuses.
    """
    for pause in PAUSES_S:
        try:
            return _read_once(path)
        except UnreadableError as error:
            if getattr(error.__context__, "errno", None) not in MAY_PASS:
                raise
        time.sleep(pause)
    return _read_once(path)


def copy_photo(source: Path, target: Path) -> None:
    """Copies a file with its times, or what it stands for; raises UnreadableError, and OSError as shutil does."""
    if stands_for_photo(source):
        target.write_bytes(read_bytes(source))
    else:
        shutil.copy2(source, target)


def _read_once(path: Path) -> bytes:
    try:
        _demand_regular(path.stat())
        # A name may have got another meaning since; without O_NONBLOCK, opening a pipe waits for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            content = file.read(_demand_regular(os.fstat(handle)))
        demand_not_lost(content)
        return read_inside(content, path, MAX_FILE_BYTES) if is_inside(content, path) else content
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError("does not exist") from None
    except MemoryError:
        raise UnreadableError("needs more memory than is available") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise UnreadableError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _demand_regular(status: os.stat_result) -> int:
    """The size in bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    if status.st_size == 0:
        raise UnreadableError("is empty", "empty")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadableError(f"is a file of {status.st_size:,} bytes")
    return status.st_size
