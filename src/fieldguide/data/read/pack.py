"""A pack: decoded photos back to back in one file, mapped into memory, checked before they are used.

    16 bytes    MAGIC
    pixels      (height, width, 3) uint8 each
    index       a row of INDEX a photo
    32 bytes    TRAILER: where the index begins, how many rows, their checksum, and MAGIC's first 8 bytes again

A pack appears whole or not at all and is never changed. A file that was cut off is noticed when it is opened (the
trailer is its end), a flipped bit in the index too, and one in a photo by its CRC-32 when it is first read in a
process: that costs one pass over the pixels in the first epoch and nothing later. Whoever uses a pack holds a shared
lock on it, which goes with the process; it is removed only under an exclusive one.
"""

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fieldguide import locks
from fieldguide.storage import replacing

MAGIC = b"fieldguide pack1"
INDEX = np.dtype([("digest", "V32"), ("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("crc", "<u4")])
TRAILER = struct.Struct("<QQI4x8s")

Pixels = npt.NDArray[np.uint8]


class DamagedError(Exception):
    """A pack, or a photo in it, is not what was written."""


class Pack:
    """An open pack; while it lives, nobody removes its file."""

    def __init__(self, path: Path) -> None:
        """Opens and checks all but the pixels; raises FileNotFoundError if it went away, DamagedError if it changed."""
        self.path = path
        with path.open("rb") as file:
            if locks.take(file.fileno(), shared=True) is False or os.fstat(file.fileno()).st_nlink == 0:
                raise FileNotFoundError(path)  # it is being removed
            if os.fstat(file.fileno()).st_size < len(MAGIC) + TRAILER.size:
                raise DamagedError("is cut off")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # keeps the lock for as long as it lives
        self._rows = {digest.hex(): tuple(rest) for digest, *rest in self._index().tolist()}
        self._checked: set[str] = set()

    def _index(self) -> npt.NDArray[np.void]:
        size = len(self._map)
        start, count, crc, magic = TRAILER.unpack(self._map[size - TRAILER.size :])
        end = start + count * INDEX.itemsize
        if self._map[: len(MAGIC)] != MAGIC or magic != MAGIC[:8] or end + TRAILER.size != size:
            raise DamagedError("has no index at its end")
        index = self._map[start:end]
        if zlib.crc32(index) != crc:
            raise DamagedError("has a damaged index")
        return np.frombuffer(index, INDEX)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._rows

    def shape(self, content_hash: str) -> tuple[int, int]:
        """Height and width of a photo, in pixels."""
        return self._rows[content_hash][1:3]

    def pixels(self, content_hash: str) -> Pixels:
        """A photo's, (height, width, 3) uint8, read-only: the mapped file itself; raises DamagedError if changed."""
        offset, height, width, crc = self._rows[content_hash]
        flat = np.frombuffer(self._map, np.uint8, height * width * 3, offset)
        if content_hash not in self._checked:
            if zlib.crc32(flat.data) != crc:
                raise DamagedError("holds a damaged photo")
            self._checked.add(content_hash)
        return flat.reshape(height, width, 3)


def write_pack(path: Path, photos: Iterable[tuple[str, Pixels]]) -> None:
    """Writes a pack of (SHA-256 of the file in hexadecimal, pixels), whole or not at all; nothing for no photos.

    Photos are taken one at a time. Raises OSError if there is no room, or no right to write.
    """
    rows = []
    with replacing(path) as file:
        place = file.write(MAGIC)
        for content_hash, pixels in photos:
            flat = np.ascontiguousarray(pixels).reshape(-1)
            rows.append((bytes.fromhex(content_hash), place, *pixels.shape[:2], zlib.crc32(flat.data)))
            place += file.write(flat.data)
        index = np.array(rows, INDEX).tobytes()
        file.write(index)
        file.write(TRAILER.pack(place, len(rows), zlib.crc32(index), MAGIC[:8]))


def remove_unless_used(path: Path) -> bool:
    """Removes a pack that no live process uses; whether it is gone."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        # Without locks nobody counts as using it: a pack that is removed while it is mapped stays readable.
        if locks.take(file.fileno()) is False:
            return False
        path.unlink(missing_ok=True)
    return True
