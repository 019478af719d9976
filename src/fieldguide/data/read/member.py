"""A photo inside an archive, read where it lies: a file of some bytes in the cache stands for it and says where.

So every other part of the program sees a folder of photos, several processes read them in any order, and nothing is
written twice. What cannot be read from its middle (a compressed .tar, a .zip of rare kinds) is unpacked instead.
"""

import os
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from fieldguide.data.read.unreadable import UnreadableError
from fieldguide.storage import cache_folder

KIND = "archives"  # of the cache
BEGINNING = b"\0fieldguide: this photo is read from its archive\n"
FIELDS = struct.Struct("<QQQqI")  # a `Member`, as the rest of such a file
SOURCE = ".from"  # the ending of the file beside the folder that says which archive it is
LOCAL = struct.Struct("<4s22xHH")  # of a .zip's local header: its mark, the lengths of the name and of the extra field
PLAIN = -1  # the method of a .tar: bytes as they are, without a local header or a checksum


class Member(NamedTuple):
    """Where an archive has a photo; sizes in bytes."""

    at: int  # of its local header in a .zip, of its content in a .tar
    packed: int
    size: int
    method: int  # `zipfile.ZIP_STORED` or `ZIP_DEFLATED`, or `PLAIN`
    crc: int

    def stand_in(self) -> bytes:
        """The content of the file that stands for the photo."""
        return BEGINNING + FIELDS.pack(*self)


class Source(NamedTuple):
    """The archive that a folder stands for, as it was when it was listed."""

    path: str
    size: int
    changed_ns: int


def written(source: Source) -> bytes:
    """The content of the file beside the folder."""
    return os.fsencode(f"{source.size} {source.changed_ns} {source.path}")


def is_inside(content: bytes, path: Path) -> bool:
    """Whether a file stands for a photo of an archive: it says so, and fieldguide wrote it."""
    is_whole = len(content) == len(BEGINNING) + FIELDS.size
    return is_whole and content.startswith(BEGINNING) and _folder_of(path) is not None


def read_inside(content: bytes, path: Path, most: int) -> bytes:
    """The photo that a file stands for.

    Raises UnreadableError if it is empty, larger than `most` bytes or damaged, or the archive has changed; OSError if
    the archive cannot be read.
    """
    folder = _folder_of(path)
    assert folder is not None
    source, member = _source(folder), Member(*FIELDS.unpack(content[len(BEGINNING) :]))
    if member.size == 0:
        raise UnreadableError("is empty", "empty")
    if max(member.size, member.packed) > most:
        raise UnreadableError(f"is a file of {member.size:,} bytes")
    try:
        with open(source.path, "rb") as archive:
            status = os.fstat(archive.fileno())
            if (status.st_size, status.st_mtime_ns) != source[1:]:
                raise UnreadableError(f"cannot be read ({source.path} has changed since its photos were listed)")
            packed = _packed(archive, member)
    except FileNotFoundError:
        raise UnreadableError(f"cannot be read ({source.path} does not exist any more)") from None
    return packed if member.method == PLAIN else _whole(packed, member)


def _packed(archive: IO[bytes], member: Member) -> bytes:
    archive.seek(member.at)
    if member.method != PLAIN:
        header = archive.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
            raise _damaged("no header where the list says")
        _, name, extra = LOCAL.unpack(header)
        archive.seek(name + extra, os.SEEK_CUR)
    content = archive.read(member.packed)
    if len(content) < member.packed:
        raise _damaged("cut off")
    return content


def _whole(packed: bytes, member: Member) -> bytes:
    try:
        content = packed
        if member.method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from None
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise _damaged("its checksum differs")
    return content


def _damaged(why: str) -> UnreadableError:
    return UnreadableError(f"is damaged in its archive ({why})")


def stands_for_photo(path: Path) -> bool:
    """Whether a file is not the photo itself, but stands for one of an archive."""
    return _folder_of(path) is not None


def _folder_of(path: Path) -> Path | None:
    """The folder in the cache that holds a file and stands for an archive."""
    return _around(os.path.dirname(path), cache_folder(KIND))  # noqa: PTH120 (a `Path` costs as much as the reading)


@lru_cache(maxsize=100_000)
def _around(folder: str, cache: Path) -> Path | None:
    real, place = Path(os.path.realpath(folder)), Path(os.path.realpath(cache))
    if real == place or not real.is_relative_to(place):
        return None
    made = place / real.relative_to(place).parts[0]
    return made if source_file(made).is_file() else None


def source_file(folder: Path) -> Path:
    """The file beside a folder that says which archive it stands for."""
    return folder.with_name(folder.name + SOURCE)


@lru_cache(maxsize=64)
def _source(folder: Path) -> Source:
    size, changed_ns, path = os.fsdecode(source_file(folder).read_bytes()).split(" ", 2)
    return Source(path, int(size), int(changed_ns))
