"""One look at each photo: can it be read, what kind of file is it, and a small print of it to compare with others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fieldguide.data.look.scan import Photo
from fieldguide.data.read.beyond import MASK_SHARE, VALUES
from fieldguide.data.read.contents import Contents, Decoded, as_looked_at
from fieldguide.data.read.decode import UnreadableError, opened, shrunk, to_rgb, upright
from fieldguide.data.read.deep import Values
from fieldguide.data.read.formats import is_misnamed
from fieldguide.data.read.reading import AnyReading, Reading, as_reading
from fieldguide.storage import digest

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
GRAY_SIDE_PX = 96
COLOUR_SIDE_PX = 32
DRAFT_SIDE_PX = 256  # a JPEG is decoded at a half, a quarter or an eighth, but never below this
DRAFTED = ("JPEG", "MPO")  # Pillow decodes these smaller
ORIENTATION_TAG = 0x0112
TINY_SIDE_PX = 32
ELONGATED_RATIO = 5
FLAT_DEVIATION = 2.0


@dataclass(frozen=True)
class Print:
    """What is left of a photo to compare it with others: upright and squeezed into squares."""

    gray: Pixels  # (96, 96) uint8, luma
    colour: Pixels  # (2, 32, 32) uint8, the chroma planes Cb and Cr; 128 is no colour
    phash: int  # 64 bits, imagehash's pHash (DCT of 32 x 32, the 8 x 8 lowest frequencies against their median)

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing on it: a lens cap, a blank page."""
        return float(self.gray.std()) < FLAT_DEVIATION


@dataclass(frozen=True)
class Facts:
    """A photo that was looked at; texts are empty and sizes 0 where something is not known."""

    photo: Photo
    content_hash: str  # SHA-256 of the file
    reason: str = ""  # why it cannot be used
    reason_kind: str = ""  # `unreadable`, `empty`, `truncated`, `not_an_image`, `no_decoder`, `bands` or `bomb`
    format: str = ""  # Pillow's name of the real format
    width: int = 0
    height: int = 0  # width and height upright, in pixels
    # of wrong_ending tiny elongated exif_rotated grayscale cmyk sixteen_bit alpha animated
    traits: frozenset[str] = frozenset()
    print: Print | None = None  # None where it was not decoded, or nobody asks for it
    values: Values | None = None  # of a photo with more than 8 bits
    mask_share: float | None = None  # of a TIFF's alpha band: the share that is transparent or opaque


def facts_of(
    photo: Photo, reading: AnyReading = 200, contents: Contents | None = None, *, prints: bool = True
) -> Facts:
    """One look at one photo, in its own shape and range of values; never raises for what is in the file.

    `contents` keeps its bytes or its pixels. Without `prints` it takes a third of the time.
    """
    content_hash, how, contents = "", as_looked_at(as_reading(reading)), contents or Contents()
    try:
        content = contents.read(photo.path)
        content_hash = digest(content)
        with opened(content, how, looks=True) as image:
            facts, decoded = _facts(photo, content_hash, image, how, prints=prints)
        if facts.values is None:  # one range for all photos is decided after the look
            contents.keep(photo.path, content_hash, decoded)
        return facts
    except UnreadableError as error:
        return Facts(photo, content_hash, str(error), error.kind)


def _facts(
    photo: Photo, content_hash: str, image: "Image.Image", how: Reading, *, prints: bool
) -> tuple[Facts, Decoded]:
    # What the header tells comes first, for a draft changes the size. The orientation has to wait for the pixels: to
    # ask a PNG for it decodes them, and what goes wrong there would be taken for broken EXIF data.
    kind = image.format or ""
    traits = set(_traits(image))
    width, height = size = image.size
    image.draft(None, (DRAFT_SIDE_PX, DRAFT_SIDE_PX))  # a JPEG's entropy code is still read to its end
    image.load()
    orientation = _orientation(image)
    share = image.info.get(MASK_SHARE, _mask_share(image))  # type: ignore[call-overload]
    rgb = to_rgb(upright(image), how, looks=True)
    made = _print(rgb) if prints else None
    values = image.info.get(VALUES)  # type: ignore[call-overload]
    if values is not None:
        traits.add("sixteen_bit")
    if is_misnamed(photo.file, kind):
        traits.add("wrong_ending")
    if orientation != 1:
        traits.add("exif_rotated")
    if orientation >= 5:
        width, height = height, width
    facts = Facts(photo, content_hash, "", "", kind, width, height, frozenset(traits), made, values, share)
    return facts, Decoded(rgb, size, round(max(size) / max(rgb.size)) if kind in DRAFTED else None, how)


def _print(rgb: "Image.Image") -> Print:
    import imagehash  # brings SciPy's transforms and wavelets along: not for those who only train

    luma, *chroma = shrunk(rgb, GRAY_SIDE_PX).convert("YCbCr").split()
    colour = np.stack([np.asarray(shrunk(plane, COLOUR_SIDE_PX)) for plane in chroma])
    bits = imagehash.phash(luma).hash.ravel()
    phash = int.from_bytes(np.packbits(bits).tobytes())
    return Print(np.asarray(luma), colour, phash)


def _traits(image: "Image.Image") -> Iterator[str]:
    short, long = sorted(image.size)
    if short < TINY_SIDE_PX:
        yield "tiny"
    if long > ELONGATED_RATIO * short:
        yield "elongated"
    if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16"):
        yield "grayscale"
    if image.mode == "CMYK":
        yield "cmyk"
    if _is_deep(image):
        yield "sixteen_bit"
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        yield "alpha"
    # An MPO's further frames are a camera's previews, which no viewer plays.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        yield "animated"


def _is_deep(image: "Image.Image") -> bool:
    """More than 8 bits a channel; Pillow opens such colour photos as 8 bits, and only its raw mode tells."""
    raw = image.format in ("PNG", "TIFF") and ";16" in str(getattr(image, "tile", ""))
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or raw


def _mask_share(image: "Image.Image") -> float | None:
    """Of a loaded TIFF with alpha: the share of it that is fully transparent or opaque."""
    if image.format != "TIFF" or image.mode not in ("RGBA", "LA"):
        return None
    counts = image.getchannel("A").histogram()
    return (counts[0] + counts[255]) / sum(counts)


def _orientation(image: "Image.Image") -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it is broken."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF data counts as none, as it does when the photo is decoded
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
