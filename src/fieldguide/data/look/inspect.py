"""Reads every photo once before anything is trained: what cannot be decoded, and a checksum of what can."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fieldguide.data.look.scan import Photo
from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import UnreadableError, decode
from fieldguide.data.read.prefetch import prefetched
from fieldguide.data.read.reading import AnyReading
from fieldguide.storage import digest


@dataclass(frozen=True)
class Inspected:
    """A photo that was looked at."""

    photo: Photo
    content_hash: str  # SHA-256 of the file; empty if it could not be read
    reason: str = ""  # why it cannot be used, or empty
    width: int = 0
    height: int = 0  # width and height upright, in pixels; 0 if it was not decoded


def inspect(
    photos: Sequence[Photo],
    reading: AnyReading,
    *,
    decode_parts: Iterable[str] = ("train", "val"),
    advance: Callable[[int], None] = lambda _: None,
) -> list[Inspected]:
    """Reads and checksums all photos, decodes those of `decode_parts`; in order, on all cores."""
    wanted = frozenset(decode_parts)

    def look(photo: Photo) -> Inspected:
        try:
            content = read_bytes(photo.path)
        except UnreadableError as error:
            return Inspected(photo, "", str(error))
        content_hash = digest(content)
        if photo.part not in wanted:
            return Inspected(photo, content_hash)
        try:
            image = decode(content, reading)
        except UnreadableError as error:
            return Inspected(photo, content_hash, str(error))
        return Inspected(photo, content_hash, "", image.width, image.height)

    found = []
    for entry in prefetched(photos, look):
        found.append(entry)
        advance(1)
    return found
