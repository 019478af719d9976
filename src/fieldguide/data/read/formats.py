"""The image formats that can be read, one line each; to add one, add its line."""

from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple

from fieldguide.data.read.bombs import jpeg_metadata, jpeg_scans, png_chunks, tiff_tiles


class Format(NamedTuple):
    """An image format."""

    name: str  # what people read
    endings: tuple[str, ...]  # of its files' names, in lower case
    starts: tuple[bytes, ...]  # what its files begin with, one of these; `?` stands for any byte
    plugin: str  # of Pillow, which reads it
    also: tuple[str, ...] = ()  # what that plugin calls some of these files
    # (content), and (content, width, height, most megapixels), to why the codec must not see such a file, or its
    # pixels must not be decoded; None if they may.
    structure: Callable[[bytes], str | None] = lambda _: None
    size: Callable[[bytes, int, int, float], str | None] = lambda *_: None

    def is_of(self, content: bytes) -> bool:
        """Whether a file begins as one of this format does."""
        return any(
            len(content) >= len(start) and all(a in (b, ord("?")) for a, b in zip(start, content, strict=False))
            for start in self.starts
        )


TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (b"\xff\xd8",), "JPEG", ("MPO",), jpeg_metadata, jpeg_scans),
    Format("PNG", (".png",), (b"\x89PNG\r\n\x1a\n",), "PNG", (), png_chunks),
    Format("WEBP", (".webp",), (b"RIFF????WEBP",), "WEBP"),
    Format("BMP", (".bmp",), (b"BM",), "BMP"),
    Format("TIFF", (".tif", ".tiff"), TIFF_STARTS, "TIFF", size=tiff_tiles),
    Format("GIF", (".gif",), (b"GIF87a", b"GIF89a"), "GIF"),
)
ENDINGS = frozenset(ending for known in FORMATS for ending in known.endings)


def format_of(content: bytes) -> Format | None:
    """What a file is by its content; None if it is no image that can be read."""
    return next((known for known in FORMATS if known.is_of(content)), None)


def has_image_ending(name: str | PurePath) -> bool:
    """Whether a file's name ends as an image's does."""
    return PurePath(name).suffix.lower() in ENDINGS


def is_misnamed(name: str | PurePath, kind: str) -> bool:
    """Whether a file's ending belongs to another format than `kind`, which is Pillow's name of the real one."""
    own = [known.endings for known in FORMATS if kind in (known.plugin, *known.also)]
    return not any(PurePath(name).suffix.lower() in endings for endings in own)
