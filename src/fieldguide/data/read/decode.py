"""A file to RGB pixels, the same way for training, validation and prediction. The only one that knows the codec."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fieldguide.data.read import beyond, codec_words
from fieldguide.data.read.beyond import OUTSIDE as OUTSIDE
from fieldguide.data.read.beyond import UNDECIDED as UNDECIDED
from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.fit import fitted
from fieldguide.data.read.formats import Format, demand_decoder, format_of
from fieldguide.data.read.quiet import OneAtATime, QuietCodec
from fieldguide.data.read.reading import AnyReading, Reading, as_reading
from fieldguide.data.read.tiff import header_of
from fieldguide.data.read.unreadable import UnreadableError as UnreadableError
from fieldguide.storage import digest, printable

LARGE_MEGAPIXELS = 32  # photos above are decoded one at a time in a process, however many threads there are
STRIP_PIXELS = 2_000_000  # modes that need a detour are converted so many at a time
DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
SMALLER = object()  # a key of an image's `info`, where it was decoded at reduced size; no file can hold it


_quiet_codec = QuietCodec()
_large_photo = OneAtATime()
_loading = [OneAtATime() for _ in range(61)]  # of images that callers opened, by their id


def decode(content: bytes, reading: AnyReading = 200, least_px: int | None = None) -> Image.Image:
    """Decodes a photo to mode RGB, upright, its first frame, transparency on white; else as `reading` says.

    A larger photo is refused before its pixels take memory. With `least_px`, a JPEG is decoded at a half, a quarter or
    an eighth of its size as long as both sides keep this many pixels (libjpeg scales in the frequency domain; Pillow's
    draft mode), said by `info[SMALLER]`; `info[OUTSIDE]` says that values were clipped. Raises UnreadableError with the
    reason.
    """
    how = as_reading(reading)
    with opened(content, how, least_px) as image:
        image.load()
        return fitted(to_rgb(upright(image), how), how.fit)


@contextlib.contextmanager
def opened(
    content: bytes, reading: AnyReading = 200, least_px: int | None = None, *, looks: bool = False
) -> Iterator[Image.Image]:
    """A photo whose header is read and whose pixels mostly are not; otherwise as `decode`, before the fit.

    What Pillow misreads comes with its pixels. `looks` measures values of more than 8 bits. What goes wrong inside,
    also in the body, becomes an UnreadableError with the reason.
    """
    how = as_reading(reading)
    with _reasons():
        kind = format_of(content)
        if kind is None:
            raise UnidentifiedImageError
        if problem := kind.structure(content):
            raise UnreadableError(problem, "bomb")
        demand_decoder(kind)
        if kind.plugin == "TIFF":
            codec_words.begin()
        instead = _tiff_instead(content, kind, how, looks) if kind.plugin == "TIFF" else None
        if instead is not None:
            yield instead
            return
        with Image.open(io.BytesIO(content), formats=(kind.plugin,)) as image:
            width, height = image.size
            _demand_size(content, kind, width, height, how.max_megapixels)
            if least_px is not None:
                image.draft(None, (least_px, least_px))  # by `draft_divisor`
                if image.size != (width, height):
                    image.info[SMALLER] = True  # type: ignore[index]
            with _large_photo() if _is_large(image, width * height) else contextlib.nullcontext():
                if kind.plugin == "PNG" and image.mode not in DEEP_GRAY and ";16" in str(image.tile):
                    image.load()
                    yield beyond.deep_png(content, image, how, looks=looks)
                else:
                    yield image


def draft_divisor(size: tuple[int, int], least_px: int | None) -> int:
    """By what a JPEG's sides are divided when it is decoded with `least_px`, as Pillow does it: 1, 2, 4 or 8."""
    fits = 1 if least_px is None else min(size) // least_px
    return next((divisor for divisor in (8, 4, 2) if divisor <= fits), 1)


def _demand_size(content: bytes, kind: Format, width: int, height: int, most: float) -> None:
    if width * height > most * 1e6:
        raise UnreadableError(f"has {width:,} x {height:,} pixels, over data.max_megapixels {most:g}", "bomb")
    if problem := kind.size(content, width, height, most):
        raise UnreadableError(problem, "bomb")


def _tiff_instead(content: bytes, kind: Format, how: Reading, looks: bool) -> Image.Image | None:
    """A TIFF that Pillow misreads; None if it is not one, or its header is for Pillow to refuse."""
    header = header_of(content)
    if header is None:
        return None
    _demand_size(content, kind, header.width, header.height, how.max_megapixels)
    with _large_photo() if header.width * header.height > LARGE_MEGAPIXELS * 1e6 else contextlib.nullcontext():
        return beyond.tiff_instead(content, header, how, looks=looks)


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """A silent codec, whatever goes wrong with it made a reason."""
    codec_words.forget()
    with _quiet_codec():
        try:
            yield
        except UnreadableError:
            raise
        except UnidentifiedImageError:
            raise UnreadableError("is not an image that can be read", "not_an_image") from None
        except MemoryError:
            raise UnreadableError("needs more memory than is available") from None
        except Exception as error:  # a codec raises whatever it likes on damaged input
            raise _reason(error) from None


def _is_large(image: Image.Image, pixels: int) -> bool:
    """Whether decoding takes much memory; a progressive JPEG's does at any size that it is decoded at."""
    if "progressive" not in image.info:
        pixels = image.width * image.height
    return pixels > LARGE_MEGAPIXELS * 1e6


def read_photo(
    path: Path, reading: AnyReading = 200, least_px: int | None = None, content_hash: str = ""
) -> Image.Image:
    """A file to an RGB image; see `decode`. `content_hash` is the SHA-256 of the photo expected there; empty: any.

    Raises UnreadableError with the reason, also if another photo lies there by now.
    """
    content = read_bytes(path)
    if content_hash and digest(content) != content_hash:
        raise UnreadableError("has changed")
    return decode(content, reading, least_px)


def photo_of(source: Path | Image.Image, reading: AnyReading = 200, content_hash: str = "") -> Image.Image:
    """A file as of `read_photo`, or an image that came from the cache, as it is."""
    return source if isinstance(source, Image.Image) else read_photo(source, reading, content_hash=content_hash)


def as_decoded(image: Image.Image, reading: AnyReading = 200) -> Image.Image:
    """A caller's image as `decode` gives one from a file: RGB, upright; the caller's is loaded and stays as it is.

    Raises UnreadableError with the reason; the file of an image that was only opened is read here.
    """
    how = as_reading(reading)
    with _reasons():
        with _loading[id(image) % len(_loading)]():  # several predictors may be given the same one
            own = image.copy()
        return fitted(to_rgb(upright(own), how), how.fit)


def to_rgb(image: Image.Image, reading: AnyReading = 200, *, looks: bool = False) -> Image.Image:
    """Any of Pillow's modes as RGB, 8 bits a channel; transparency on white, deeper values by `reading`.

    What needs a detour goes strip by strip, so that a large photo takes the memory of its pixels and of the result.
    `looks` leaves the measured values in the image's `info`.
    """
    made = _to_rgb(image, as_reading(reading), looks)
    made.info |= {key: image.info[key] for key in (SMALLER, OUTSIDE, UNDECIDED) if key in image.info}
    return made


def _to_rgb(image: Image.Image, reading: Reading, looks: bool) -> Image.Image:
    if image.mode in DEEP_GRAY:
        return beyond.deep_gray(image, reading, looks=looks).convert("RGB")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _in_strips(image, _on_white)
    return image.convert("RGB")


def _in_strips(image: Image.Image, converted: Callable[[Image.Image], Image.Image]) -> Image.Image:
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        return converted(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        whole.paste(converted(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Turns a photo by its EXIF orientation, in place, for a copy would take as much memory again; gives it back.

    Broken EXIF data counts as none; raises MemoryError if there is too little to turn it.
    """
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # the orientation is a courtesy of the camera: unreadable means not given
        if isinstance(error, MemoryError):
            raise
    return image


def shrunk(image: Image.Image, side_px: int) -> Image.Image:
    """An RGB photo squeezed into a square, whatever its shape; averages pixels, so that no detail flickers."""
    return image.resize((side_px, side_px), Image.Resampling.BILINEAR, reducing_gap=3.0)


def thumbnail_jpeg(content: bytes, side_px: int, reading: AnyReading = 200) -> bytes:
    """A small JPEG of a photo for a page, its longer side at most `side_px`; pixels alone, no metadata.

    Raises UnreadableError with the reason.
    """
    own = replace(as_reading(reading), value_range=None)  # to look at, each photo by its own values
    with opened(content, own, side_px) as image:
        image.load()
        small = to_rgb(upright(image), own)
        small.thumbnail((side_px, side_px))
        file = io.BytesIO()
        Image.fromarray(np.asarray(small)).save(file, "JPEG", quality=75)
        return file.getvalue()


def _reason(error: Exception) -> UnreadableError:
    said = printable(codec_words.said() or str(error)).strip().splitlines()
    text = "".join(c if c.isprintable() else " " for c in said[0])[:200] if said else type(error).__name__
    lowered = text.lower()
    if any(word in lowered for word in ("truncated", "unexpected end", "not enough data", "read error")):
        return UnreadableError(f"is cut off ({text})", "truncated")
    return UnreadableError(f"cannot be decoded ({text})")
