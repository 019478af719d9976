"""The image formats that can be read, one line each; to add one, add its line."""

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import NamedTuple

from fieldguide.data.read.bombs import jpeg_metadata, jpeg_scans, png_chunks, tiff_tiles
from fieldguide.data.read.unreadable import UnreadableError
from fieldguide.errors import counted


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
    decoder: str = ""  # the package or the feature of Pillow that not every installation has
    install: str = ""  # what installs it

    def is_of(self, content: bytes) -> bool:
        """Whether a file begins as one of this format does."""
        return any(
            len(content) >= len(start) and all(a in (b, ord("?")) for a, b in zip(start, content, strict=False))
            for start in self.starts
        )


TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
HEIF_STARTS = tuple(
    b"????ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
JP2_STARTS = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
JXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
NEW_PILLOW = "pip install -U pillow"
HEIF = Format(
    "HEIC",
    (".heic", ".heif", ".hif"),
    HEIF_STARTS,
    "HEIF",
    decoder="pillow_heif",
    install="pip install pillow-heif",
)
AVIF = Format("AVIF", (".avif",), (b"????ftypavif", b"????ftypavis"), "AVIF", decoder="avif", install=NEW_PILLOW)
FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (b"\xff\xd8",), "JPEG", ("MPO",), jpeg_metadata, jpeg_scans),
    Format("PNG", (".png",), (b"\x89PNG\r\n\x1a\n",), "PNG", (), png_chunks),
    Format("WEBP", (".webp",), (b"RIFF????WEBP",), "WEBP"),
    Format("BMP", (".bmp",), (b"BM",), "BMP"),
    Format("TIFF", (".tif", ".tiff"), TIFF_STARTS, "TIFF", size=tiff_tiles),
    Format("GIF", (".gif",), (b"GIF87a", b"GIF89a"), "GIF"),
    AVIF,
    HEIF,
    Format(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpf", ".jpx"),
        JP2_STARTS,
        "JPEG2000",
        decoder="jpg_2000",
        install=NEW_PILLOW,
    ),
    Format("JPEG XL", (".jxl",), JXL_STARTS, "JXL", decoder="pillow_jxl", install="pip install pillow-jxl-plugin"),
)
ENDINGS = frozenset(ending for known in FORMATS for ending in known.endings)


def format_of(content: bytes) -> Format | None:
    """What a file is by its content; None if it is no image that can be read."""
    found = next((known for known in FORMATS if known.is_of(content)), None)
    if found is HEIF and content[8:12] in (b"mif1", b"msf1") and b"avif" in content[16 : 16 + 64]:
        return AVIF  # its brand is general, and the list of compatible ones says what it is
    return found


def demand_decoder(kind: Format) -> None:
    """Raises UnreadableError with the line that installs a missing decoder."""
    if kind.decoder and not _has(kind.decoder):
        raise UnreadableError(f"is {kind.name}, and its decoder is not installed; {kind.install}", "no_decoder")


@functools.cache
def _has(decoder: str) -> bool:
    """Whether Pillow can read a format; a package that adds it is registered."""
    if not decoder.startswith("pillow_"):
        from PIL import features

        return bool(features.check(decoder))
    try:
        module = importlib.import_module(decoder)
    except ImportError:
        return False
    if decoder == "pillow_heif":
        module.register_heif_opener()  # the other registers itself
    return True


def missing_decoders(names: Iterable[str | PurePath]) -> list[str]:
    """Sentences on files whose ending belongs to a format without its decoder: ending, count, what installs it."""
    endings = Counter(PurePath(name).suffix.lower() for name in names)
    found = []
    for known in FORMATS:
        here = [(ending, endings[ending]) for ending in known.endings if endings[ending]]
        if here and known.decoder and not _has(known.decoder):
            counts = " and ".join(f"{counted(count, 'file')} ending in {ending}" for ending, count in here)
            found.append(f"{counts}: the decoder of {known.name} is not installed; {known.install}")
    return found


def has_image_ending(name: str | PurePath) -> bool:
    """Whether a file's name ends as an image's does."""
    return PurePath(name).suffix.lower() in ENDINGS


def is_misnamed(name: str | PurePath, kind: str) -> bool:
    """Whether a file's ending belongs to another format than `kind`, which is Pillow's name of the real one."""
    own = [known.endings for known in FORMATS if kind in (known.plugin, *known.also)]
    return not any(PurePath(name).suffix.lower() in endings for endings in own)
