"""A .zip or .tar of photos, unpacked into the cache within bounds; no name in it leaves its folder."""

import contextlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from fieldguide.data.read.formats import has_image_ending
from fieldguide.errors import FieldguideError, PhotosError, UsageError, counted
from fieldguide.storage import CACHE_PLACE, WRITING, cache_folder, digest

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
KIND = "archives"  # of the cache
MOST_FILES = 2_000_000
PIECE = 1 << 20
Member = tuple[str, Callable[[], IO[bytes] | None]]  # a file's name in the archive, and what opens it


def is_archive(path: Path) -> bool:
    """Whether a file's name ends as an archive's does."""
    return path.name.lower().endswith(ENDINGS)


def unpacked(path: Path, tell: Callable[[str], None] = lambda _: None) -> Path:
    """The folder with an archive's photos; unpacked once, and again after the archive has changed.

    Raises:
        UsageError: it cannot be read.
        PhotosError: it is damaged or encrypted, or holds more than there is room for.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    key = digest(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode())[:16]
    place = cache_folder(KIND) / key
    if place.is_dir():
        tell(f"{path}: unpacked before, in {place}")
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(place.parent).free // 2
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix=WRITING))
    except OSError as error:
        raise UsageError(f"{path}: cannot be unpacked into {place.parent} ({error.strerror or error})") from None
    try:
        files, size, outside = _unpack(path, made, room)
        if not files:
            raise PhotosError(f"{path}: holds no photos (files with an image ending)")
        with contextlib.suppress(OSError):  # another process was quicker
            made.replace(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    left = f"; {counted(outside, 'file')} with a path out of the archive ignored" if outside else ""
    tell(f"{path}: {counted(files, 'photo')} unpacked into {place} ({size / 1e6:,.1f} MB){left}")
    return place


def _unpack(path: Path, place: Path, room: int) -> tuple[int, int, int]:
    """Files and bytes written, and how many were left because their names lead elsewhere."""
    files = size = outside = 0
    try:
        for name, opened in _members(path):
            inside = _safe(name)
            if inside is None:
                outside += 1
                continue
            if not has_image_ending(inside):
                continue
            files += 1
            if files > MOST_FILES:
                raise PhotosError(f"{path}: holds over {MOST_FILES:,} photos; unpack it yourself")
            target = place / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            source = opened()
            if source is not None:
                with source, target.open("wb") as file:
                    size += _copy(source, file, room - size, path)
    except FieldguideError:
        raise
    except RuntimeError as error:  # what zipfile raises without a password, or for an unknown compression
        raise PhotosError(f"{path}: cannot be unpacked ({error}); unpack it yourself and give the folder") from None
    except OSError as error:
        raise PhotosError(f"{path}: cannot be unpacked into {place.parent} ({error.strerror or error})") from None
    except Exception as error:  # both libraries raise errors of any kind on damaged input
        raise PhotosError(f"{path}: is damaged or of an unknown kind ({error or type(error).__name__})") from None
    return files, size, outside


def _copy(source: IO[bytes], target: IO[bytes], room: int, path: Path) -> int:
    """Copies in pieces, whatever size the archive claims."""
    written = 0
    while piece := source.read(PIECE):
        written += len(piece)
        if written > room:
            raise PhotosError(
                f"{path}: unpacks to more than half of the free disk; free some, or set {CACHE_PLACE} to a larger one"
            )
        target.write(piece)
    return written


def _members(path: Path) -> Iterator[Member]:
    """The regular files of an archive; links and devices are none."""
    if zipfile.is_zipfile(path) and not path.name.lower().endswith(ENDINGS[1:]):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if entry.filename and not entry.filename.endswith("/") and kind in (0, stat.S_IFREG):
                    yield entry.filename, lambda entry=entry: archive.open(entry)  # type: ignore[misc]
        return
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            if member.isfile():
                yield member.name, lambda member=member: tar.extractfile(member)  # type: ignore[misc]


def _safe(name: str) -> str | None:
    """A name that stays inside, with `/`; None if it does not."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name[:2] or "\0" in name:
        return None
    return str(path)


def known_archives() -> tuple[int, int]:
    """How many archives are unpacked, and their bytes."""
    places = _places()
    return len(places), sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())


def forget_archives() -> int:
    """Deletes what was unpacked; says how many there were."""
    places = _places()
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    return len(places)


def _places() -> list[Path]:
    folder = cache_folder(KIND)
    return [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []
