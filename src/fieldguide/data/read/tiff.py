"""TIFFs that Pillow misreads or cannot read: their header, and their values by tifffile."""

import io
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.data.read.unreadable import UnreadableError

Array = npt.NDArray[Any]
MOST_BYTES_PER_PIXEL = 16  # over all pixels that a photo may have
GRAY, RGB = (0, 1), 2
ASSOCIATED, UNASSOCIATED = 1, 2
TAG_ORIENTATION = 274


class CodecError(UnreadableError):
    """A TIFF whose compression tifffile cannot undo without another package."""


@dataclass(frozen=True)
class Header:
    """A TIFF's first page as its header describes it."""

    width: int
    height: int
    bands: int
    bits: int
    kind: str  # `unsigned`, `signed`, `float` or another
    photometric: int
    extra: tuple[int, ...]
    compression: int
    is_planar: bool
    orientation: int

    @property
    def has_alpha(self) -> bool:
        """Whether the last band is marked as transparency."""
        return bool(self.extra) and self.extra[-1] in (ASSOCIATED, UNASSOCIATED)

    @property
    def colours(self) -> int:
        """Bands without an alpha band, and without those of an RGB photo that are marked as extra."""
        if self.photometric == RGB:
            return self.bands - (len(self.extra) or (1 if self.bands == 4 else 0))
        return self.bands - self.has_alpha

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow reads it as its header says; measured on every mix of type, bands and layout."""
        if self.photometric not in (*GRAY, RGB):  # palette, CMYK, YCbCr and Lab
            return self.bits <= 8 or not self.is_planar
        if self.bits <= 8 and self.kind == "unsigned":
            if self.photometric == RGB:
                return self.bands == 3 or (self.bands >= 4 and (self.has_alpha or not self.is_planar))
            return self.bands == 1 or (self.bands == 2 and self.has_alpha)
        is_plain = self.bands == 1 and self.photometric == 1
        known = ((16, "unsigned"), (12, "unsigned"), (16, "signed"), (32, "signed"), (32, "float"))
        return is_plain and (self.bits, self.kind) in known


def header_of(content: bytes) -> Header | None:
    """What a TIFF's first page is; None where the header is too damaged to tell."""
    try:
        with _tifffile().TiffFile(io.BytesIO(content)) as file:
            page: Any = file.pages[0]
            bits = page.bitspersample
            orientation = page.tags.get(TAG_ORIENTATION)
            kinds = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}
            sample_format = page.sampleformat
            return Header(
                int(page.imagewidth),
                int(page.imagelength),
                int(page.samplesperpixel),
                int(max(bits) if isinstance(bits, tuple) else bits),
                kinds.get(int(sample_format[0] if isinstance(sample_format, tuple) else sample_format), "other"),
                int(page.photometric),
                tuple(int(each) for each in page.extrasamples),
                int(page.compression),
                int(page.planarconfig or 1) == 2,
                int(orientation.value) if orientation is not None and 1 <= int(orientation.value) <= 8 else 1,
            )
    except Exception:  # a damaged header raises whatever it likes; the codec says what is wrong
        return None


def read_tiff(content: bytes, header: Header, max_megapixels: float) -> Array:
    """The first page's values, (height, width, bands), as they are in the file.

    Raises:
        UnreadableError: too large, or not to be decoded.
    """
    megapixels, most = header.width * header.height / 1e6, max_megapixels
    if megapixels > most:
        raise UnreadableError(f"has {header.width:,} x {header.height:,} pixels, over data.max_megapixels {most:g}")
    if megapixels * header.bands * header.bits / 8 > most * MOST_BYTES_PER_PIXEL:
        raise UnreadableError(
            f"has {header.bands:,} bands of {megapixels:,.0f} megapixels, more than memory should hold"
        )
    try:
        with _tifffile().TiffFile(io.BytesIO(content)) as file:
            page: Any = file.pages[0]
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            if any(count == 0 or start + count > len(content) for start, count in ends):  # tifffile fills these with 0
                raise UnreadableError("is cut off (a strip is missing)", "truncated")
            made = np.asarray(page.asarray(maxworkers=1))
            axes = str(page.axes)
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise CodecError(f"is a TIFF that needs imagecodecs ({_what(error)}); pip install imagecodecs") from None
        raise UnreadableError(f"cannot be decoded ({_what(error)})") from None
    if axes == "SYX":
        made = np.moveaxis(made, 0, -1)
    elif axes == "YX":
        made = made[..., None]
    if axes not in ("YX", "YXS", "SYX") or made.shape != (header.height, header.width, header.bands):
        raise UnreadableError(f"is a TIFF whose pixels ({axes}, {made.shape}) contradict its header")
    return made


def _what(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]


def _tifffile() -> Any:
    """The library, which takes 0.4 s to import and most folders have no TIFF; its log is kept from the terminal."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    return tifffile
