"""Locks between processes. The system's own lock on an open file, so a process that dies holds none.

Not from a library: `filelock` has no shared lock on a file that is mapped, and does not say who holds one.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from fieldguide.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def take(handle: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Takes a lock on an open file; it goes when the file is closed in every process that inherited it.

    Returns:
        Whether it was taken; None where the system or the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds a lock that no other process can hold; the file says who holds it and is removed at the end.

    Where there are no locks, a holder counts if its process is alive, or if it is on another machine. Raises
    UsageError, naming `what` is locked, if another process holds it.
    """
    with _opened(path) as handle:
        holder = os.read(handle, 300).decode("utf-8", "replace").strip()
        taken = take(handle)
        if not (not _is_alive(holder) if taken is None else taken) or not is_still(handle, path):
            raise UsageError(f"{what}: another process is using it ({holder or 'it has just started'})")
        with _removed_at_the_end(handle, path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
            yield


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock, then holds it; the file is removed at the end.

    Where there are no locks, nobody waits.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        with _opened(path) as handle:
            taken = take(handle, wait=True)
            if taken and not is_still(handle, path):
                continue  # its holder removed it while we waited
            with _removed_at_the_end(handle, path):
                yield
            return


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The handle of a lock's file; a child that outlives this process (a worker) must not hold the lock on."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(handle)
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(True)
        os.register_at_fork(after_in_child=_let_go)
    try:
        yield handle
    finally:
        if handle in _held:  # else this is a child
            _held.discard(handle)
            os.close(handle)


@contextlib.contextmanager
def _removed_at_the_end(handle: int, path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        if handle in _held:
            with contextlib.suppress(OSError):
                path.unlink()


_held: set[int] = set()
_registered: list[bool] = []


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


def is_still(handle: int, path: Path) -> bool:
    """Whether `path` is still the file that was opened: its holder may have removed it in between."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _is_alive(holder: str) -> bool:
    """Whether `process N on MACHINE` is alive; on another machine nobody can tell, so it counts as alive."""
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    if not found or int(found[1]) == os.getpid():
        return False
    if found[2] != platform.node():
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
