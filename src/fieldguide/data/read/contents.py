"""Photos that were looked at and will be used soon, kept in memory so that a training reads and decodes each once."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import draft_divisor
from fieldguide.data.read.fit import fitted
from fieldguide.data.read.reading import Reading

MOST_KEPT_BYTES = 1_000_000_000
SHARE_OF_PIXELS = 0.75  # of the room; pixels take ten times the bytes of a file, and files may be far away


class Decoded(NamedTuple):
    """A photo as the look decoded it; nobody may change it."""

    image: Image.Image  # RGB and upright, in the photo's own shape
    size: tuple[int, int]  # of the whole photo, as the file has it
    divisor: int | None  # by which its sides were divided; None: of a format that is always decoded whole
    reading: Reading


class Contents:
    """Files' contents, or their pixels, as many as fit. The look at all photos reads them; caches and probes use them.

    Pixels are kept as the look decoded them, which serves whoever would decode at the same size; others get the bytes.
    A copy in another process is empty.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self._kept: dict[Path, bytes] = {}
        self._decoded: dict[str, Decoded] = {}
        self._room = most_bytes
        self._room_of_pixels = round(SHARE_OF_PIXELS * most_bytes)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Contents"], tuple[()]]:
        return Contents, ()

    def read(self, path: Path) -> bytes:
        """As `read_bytes`, kept if there is room."""
        content = read_bytes(path)
        with self._lock:
            if len(content) <= self._room:
                self._room -= len(content)
                self._kept[path] = content
        return content

    def keep(self, path: Path, content_hash: str, decoded: Decoded) -> None:
        """Keeps the pixels in place of the bytes, if there is room; `content_hash` is the SHA-256 of the file."""
        needed = 4 * decoded.image.width * decoded.image.height  # as Pillow keeps them
        with self._lock:
            if needed > self._room_of_pixels or content_hash in self._decoded:
                return
            self._room_of_pixels -= needed
            self._room += len(self._kept.pop(path, b"")) - needed
            self._decoded[content_hash] = decoded

    def again(self, path: Path) -> bytes:
        """What was kept, else as `read_bytes`."""
        return self._kept.get(path) or read_bytes(path)

    def decoded(self, content_hash: str, reading: Reading, least_px: int | None) -> Image.Image | None:
        """What `decode` gives for a photo of this content, not to be changed; None where that was not kept."""
        kept = self._decoded.get(content_hash)
        if kept is None or kept.reading != as_looked_at(reading):
            return None
        if kept.divisor is not None and kept.divisor != draft_divisor(kept.size, least_px):
            return None
        return fitted(kept.image, reading.fit)

    def clear(self) -> None:
        """Forgets everything and keeps nothing more."""
        self._kept.clear()
        self._decoded.clear()
        self._room = self._room_of_pixels = 0


def as_looked_at(reading: Reading) -> Reading:
    """The same, but a photo stays in its own shape and range of values."""
    return replace(reading, value_range=None, fit="crop")
