"""Archives of photos as folders in the cache, listed once, and kept there while a process uses them.

Every other part of the program sees a folder. Its files say where the photos lie in the archive (`member.py`).
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from fieldguide import locks
from fieldguide.data.read.archive import lay_out
from fieldguide.data.read.member import KIND, Source, source_file, written
from fieldguide.errors import UsageError, counted
from fieldguide.storage import WRITING, cache_folder, digest

LOCK = ".lock"
_in_use: dict[Path, int] = {}  # locks that this process holds as long as it lives


def as_folder(path: Path, tell: Callable[[str], None] = lambda _: None) -> Path:
    """The folder that stands for an archive; made once, and again after the archive has changed.

    No `forget_archives` deletes it while this process lives, nor while a process lives that it has started.

    Raises:
        UsageError: it cannot be read, or nothing can be written into the cache.
        PhotosError: it is damaged or encrypted, or takes more room than there is.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    name = digest(str(path.resolve()).encode("utf-8", "surrogateescape"))[:12]
    place = cache_folder(KIND) / f"{name}-{digest(f'{status.st_size} {status.st_mtime_ns}'.encode())[:8]}"
    if place.is_dir():
        how = "read in place" if source_file(place).is_file() else f"unpacked before, in {place}"
        tell(f"{path}: {how}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _use(path, place, tell)
    except OSError as error:
        if not place.is_dir():  # one that is there can be read from a cache that cannot be written
            why = error.strerror or error
            raise UsageError(f"{path}: cannot be listed in {place.parent} ({why})") from None
    with contextlib.suppress(OSError):
        _forget(before for before in _places() if _lock_of(before).name.startswith(name) and before != place)
    return place


def _use(path: Path, place: Path, tell: Callable[[str], None]) -> None:
    """Lists an archive if that is not done, and holds a shared lock on its place."""
    if place in _in_use:
        if place.is_dir():
            return
        os.close(_in_use.pop(place))  # somebody deleted the folder
    while True:
        handle = os.open(_lock_of(place), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _lock(handle, place, path, tell)
            if taken is None or locks.is_still(handle, _lock_of(place)):
                if not place.is_dir():
                    _make(path, place, tell)
                # another process may delete it between its lock to make it and this one to use it
                if taken is None or (locks.take(handle, shared=True, wait=True) and place.is_dir()):
                    _in_use[place] = handle
                    return
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, place: Path, path: Path, tell: Callable[[str], None]) -> bool | None:
    """Locks a place: to use it, or to make it, which one process does while others wait."""
    taken = locks.take(handle, shared=place.is_dir())
    if taken is False and not (taken := locks.take(handle, shared=True)):  # others use a folder that was deleted
        tell(f"{path}: waiting for another process that lists it")
        taken = locks.take(handle, shared=True, wait=True)
    return taken


def _make(path: Path, place: Path, tell: Callable[[str], None]) -> None:
    """Writes beside the place, then renames: a folder that is there is whole."""
    made = place.with_name(f"{WRITING}{place.name}-{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        status = path.stat()
        found = lay_out(path, made, shutil.disk_usage(place.parent).free // 2)
        if found.unpacked < found.files:
            source_file(place).write_bytes(written(Source(str(path.resolve()), status.st_size, status.st_mtime_ns)))
        made.replace(place)
        unpacked = f"{found.unpacked:,} of them " if 0 < found.unpacked < found.files else ""
        how = f"{unpacked}unpacked into {place}" if found.unpacked else "read in place"
        tell(f"{path}: {counted(found.files, 'photo')}, {how}; {found.sentence()}")
    except OSError:
        if not place.is_dir():  # where there are no locks, another process may have been quicker
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _lock_of(place: Path) -> Path:
    """Also of a folder that a process writes."""
    name = "-".join(place.name.removeprefix(WRITING).split("-")[:2])
    return place.with_name(name + LOCK)


def known_archives() -> tuple[int, int]:
    """How many archives there are, and the bytes of what is unpacked or stands for their photos."""
    places = _places()
    return len(places), sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())


def forget_archives() -> tuple[int, int]:
    """Deletes what was made and no process uses; how many were deleted, and how many are kept.

    Raises UsageError if the folder cannot be written.
    """
    try:
        return _forget(_places())
    except OSError as error:
        raise UsageError(f"{cache_folder(KIND)}: cannot be cleared ({error.strerror or error})") from None


def _forget(places: Iterable[Path]) -> tuple[int, int]:
    deleted = kept = 0
    for place in places:
        handle = os.open(_lock_of(place), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if locks.take(handle) is False:
                kept += 1
                continue
            shutil.rmtree(place, ignore_errors=True)
            source_file(place).unlink(missing_ok=True)
            _lock_of(place).unlink(missing_ok=True)
            deleted += 1
        finally:
            os.close(handle)
    return deleted, kept


def _places() -> list[Path]:
    folder = cache_folder(KIND)
    return [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []
