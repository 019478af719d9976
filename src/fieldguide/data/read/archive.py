"""A .zip or .tar of photos as a folder: small files that say where its photos lie; no name in it leaves the folder.

What has no middle that can be read, such as a .tar.gz, is unpacked within bounds.
"""

import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fieldguide.data.read.formats import has_image_ending
from fieldguide.data.read.member import PLAIN, Member
from fieldguide.data.read.unreadable import lost_in_archive
from fieldguide.errors import FieldguideError, PhotosError, counted, listing
from fieldguide.storage import CACHE_PLACE

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MOST_FILES = 2_000_000
PIECE = 1 << 20
BLOCK_BYTES = 4096  # of the disk, which the smallest file takes
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
BROKEN = (zlib.error, lzma.LZMAError, EOFError)  # what decompression raises
Opened = Callable[[], IO[bytes] | None]  # opens a file of the archive


def is_archive(path: Path) -> bool:
    """Whether a file's name ends as an archive's does."""
    return path.name.lower().endswith(ENDINGS)


class Entry(NamedTuple):
    """A regular file of an archive."""

    name: str
    member: Member | None  # where it lies; None: it has to be unpacked
    opened: Opened


class InArchive(NamedTuple):
    """What an archive holds."""

    files: int
    size: int  # bytes of the photos
    unpacked: int  # how many of the photos are unpacked, because they cannot be read in place
    damaged: list[str]  # names of photos that are damaged in the archive
    twice: int  # names that it holds more than once; the last one counts
    outside: int  # files whose names lead elsewhere; ignored
    is_open: bool  # a .tar without the mark of its end
    tables: list[str]  # names of tables in it, which are not unpacked

    def sentence(self) -> str:
        """As the end of a sentence that names the archive and the folder."""
        told = [f"{self.size / 1e6:,.1f} MB"]
        told += [f"{counted(self.twice, 'name')} in it more than once, the last one counts"] if self.twice else []
        told += [f"{counted(self.outside, 'file')} with a path out of the archive ignored"] if self.outside else []
        told += [f"not read: {', '.join(self.tables[:3])}; if it has the labels, take it out and give it first"] * bool(
            self.tables
        )
        told += ["it has no end mark, so it may be cut off"] if self.is_open else []
        told += [f"damaged in it:\n{listing(self.damaged)}"] if self.damaged else []
        return "; ".join(told)


def lay_out(path: Path, place: Path, room: int) -> InArchive:
    """Writes a file for each photo of an archive below a folder: where it lies, or if that is no help the photo itself.

    A photo that is damaged in the archive leaves a file that says so to whoever reads it. Raises PhotosError if the
    archive is damaged or encrypted, holds no photos, or takes more than `room` bytes.
    """
    made: set[str] = set()
    found = _Found()
    try:
        for entry in _entries(path, found):
            inside = _safe(entry.name)
            if inside is None:
                found.outside += 1
            elif inside.lower().endswith(TABLES) and "__MACOSX" not in inside:
                found.tables.append(inside)
            elif has_image_ending(inside):
                found.twice += inside in made
                made.add(inside)
                if len(made) > MOST_FILES:
                    raise PhotosError(f"{path}: holds over {MOST_FILES:,} photos; unpack it yourself")
                if not _lay_out_one(path, place / inside, entry, room, found):
                    found.damaged.append(inside)
    except FieldguideError:
        raise
    except RuntimeError as error:  # what zipfile raises without a password, or for an unknown compression
        raise PhotosError(f"{path}: cannot be unpacked ({error}); unpack it yourself and give the folder") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotosError(f"{path}: cannot be unpacked into {place.parent} ({error.strerror})") from None
        # both libraries raise errors of any kind on damaged input, and bz2 and gzip an OSError without a number
        raise PhotosError(_why_damaged(path, error, len(made))) from None
    if not made:
        raise PhotosError(f"{path}: holds no photos (files with an image ending)")
    return InArchive(
        len(made), found.size, found.unpacked, found.damaged, found.twice, found.outside, found.is_open, found.tables
    )


@dataclass
class _Found:
    """Counts while an archive is read."""

    size: int = 0
    written: int = 0  # bytes on the disk
    unpacked: int = 0
    damaged: list[str] = field(default_factory=list)
    twice: int = 0
    outside: int = 0
    is_open: bool = False
    tables: list[str] = field(default_factory=list)


def _why_damaged(path: Path, error: Exception, photos: int) -> str:
    why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    after = f" after {counted(photos, 'photo')}, and nobody can tell what follows" if photos else ""
    return f"{path}: is damaged or of an unknown kind{after} ({why}); get it again, or unpack it yourself"


def _lay_out_one(path: Path, target: Path, entry: Entry, room: int, found: _Found) -> bool:
    """Whether a photo is whole, as far as known; in a .zip the others do not depend on it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.member is not None:
        target.write_bytes(entry.member.stand_in())
        found.size += entry.member.size
        _demand_room(path, found, BLOCK_BYTES, room)
        return True
    found.unpacked += 1
    try:
        source = entry.opened()
        if source is not None:
            with source, target.open("wb") as file:
                for piece in iter(lambda: source.read(PIECE), b""):  # in pieces, whatever size the archive claims
                    _demand_room(path, found, len(piece), room)
                    file.write(piece)
                found.size += file.tell()
    except (zipfile.BadZipFile, *BROKEN, OSError) as error:
        if not _is_zip(path) or getattr(error, "errno", None) is not None:
            raise
        target.write_bytes(lost_in_archive(f"{type(error).__name__}: {error}"))
        return False
    return True


def _demand_room(path: Path, found: _Found, size: int, room: int) -> None:
    found.written += size
    if found.written > room:
        raise PhotosError(
            f"{path}: takes more than half of the free disk; free some, or set {CACHE_PLACE} to a larger one"
        )


def _is_zip(path: Path) -> bool:
    """By its name, or by its beginning; a .tar whose last file is a .zip ends like one."""
    with path.open("rb") as file:
        return not path.name.lower().endswith(ENDINGS[1:]) or file.read(4) == b"PK\3\4"


def _entries(path: Path, found: _Found) -> Iterator[Entry]:
    """The regular files of an archive; links and devices are none."""
    if _is_zip(path) and (zipfile.is_zipfile(path) or not tarfile.is_tarfile(path)):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if entry.filename and not entry.filename.endswith("/") and kind in (0, stat.S_IFREG):
                    yield Entry(entry.filename, _in_zip(entry), lambda entry=entry: archive.open(entry))  # type: ignore[misc]
        return
    with tarfile.open(path, "r:*") as tar:
        assert tar.fileobj is not None
        is_plain = isinstance(tar.fileobj, io.BufferedReader)
        for member in tar:
            if member.isfile():
                place = Member(member.offset_data, member.size, member.size, PLAIN, 0)
                in_place = is_plain and not member.issparse()
                yield Entry(member.name, place if in_place else None, lambda member=member: tar.extractfile(member))  # type: ignore[misc]
        found.is_open = _demand_end(tar)


def _in_zip(entry: zipfile.ZipInfo) -> Member | None:
    """Where a photo lies; None if it is encrypted, or packed in a way that only zipfile knows."""
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    return Member(entry.header_offset, entry.compress_size, entry.file_size, entry.compress_type, entry.CRC)


def _demand_end(tar: tarfile.TarFile) -> bool:
    """Whether a .tar ends without its mark; raises ReadError where tarfile takes a damaged header for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):
        raise tarfile.ReadError("damaged header")
    return not block


def _safe(name: str) -> str | None:
    """A name that stays inside, with `/`; None if it does not."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name[:2] or "\0" in name:
        return None
    return str(path)
