"""A file to RGB pixels, the same way for training, validation and prediction. The only one that knows the codec."""

import contextlib
import errno
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fieldguide.data.read.formats import format_of
from fieldguide.data.read.quiet import OneAtATime, QuietCodec
from fieldguide.errors import PhotosError
from fieldguide.storage import digest, printable

MAX_FILE_BYTES = 2**29
LARGE_MEGAPIXELS = 32  # photos above are decoded one at a time in a process, however many threads there are
STRIP_PIXELS = 2_000_000  # modes that need a detour are converted so many at a time
PAUSES_S = (0.1, 0.5, 2.0)
MAY_PASS = {
    number
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EINTR", "EREMOTEIO", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN")
    if (number := getattr(errno, name, None)) is not None
}
SMALLER = object()  # a key of an image's `info`, where it was decoded at reduced size; no file can hold it


class UnreadableError(PhotosError):
    """A file that is no photo; the text is the end of a sentence that begins with the file's name.

    The kind is `unreadable`, `empty`, `truncated`, `not_an_image` or `bomb`.
    """

    def __init__(self, reason: str, kind: str = "unreadable") -> None:
        self.kind = kind
        super().__init__(reason)


_quiet_codec = QuietCodec()
_large_photo = OneAtATime()
_loading = [OneAtATime() for _ in range(61)]  # of images that callers opened, by their id


def read_bytes(path: Path) -> bytes:
    """A regular file's content; tried again after errors of a device or a network, which may pass.

    Raises UnreadableError if it is not a regular file, empty or too large, or the system refuses.
    """
    for pause in PAUSES_S:
        try:
            return _read_once(path)
        except UnreadableError as error:
            if getattr(error.__context__, "errno", None) not in MAY_PASS:
                raise
        time.sleep(pause)
    return _read_once(path)


def _read_once(path: Path) -> bytes:
    try:
        _demand_regular(path.stat())
        # A name may have got another meaning since; without O_NONBLOCK, opening a pipe waits for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            return file.read(_demand_regular(os.fstat(handle)))
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError("does not exist") from None
    except MemoryError:
        raise UnreadableError("needs more memory than is available") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise UnreadableError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _demand_regular(status: os.stat_result) -> int:
    """The size in bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    if status.st_size == 0:
        raise UnreadableError("is empty", "empty")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadableError(f"is a file of {status.st_size:,} bytes")
    return status.st_size


def decode(content: bytes, max_megapixels: float = 200, least_px: int | None = None) -> Image.Image:
    """Decodes a photo to mode RGB, upright, its first frame, transparency on white.

    A larger photo is refused before its pixels take memory. With `least_px`, a JPEG is decoded at a half, a quarter or
    an eighth of its size as long as both sides keep this many pixels (libjpeg scales in the frequency domain; Pillow's
    draft mode), said by `info[SMALLER]`. Raises UnreadableError with the reason.
    """
    with opened(content, max_megapixels, least_px) as image:
        image.load()
        return to_rgb(upright(image))


@contextlib.contextmanager
def opened(content: bytes, max_megapixels: float = 200, least_px: int | None = None) -> Iterator[Image.Image]:
    """A photo whose header is read and whose pixels are not; otherwise as `decode`.

    What goes wrong inside, also in the body, becomes an UnreadableError with the reason.
    """
    with _reasons():
        kind = format_of(content)
        if kind is None:
            raise UnidentifiedImageError
        if problem := kind.structure(content):
            raise UnreadableError(problem, "bomb")
        with Image.open(io.BytesIO(content), formats=(kind.plugin,)) as image:
            width, height = image.size
            if width * height > max_megapixels * 1e6:
                raise UnreadableError(
                    f"has {width:,} x {height:,} pixels, over data.max_megapixels {max_megapixels:g}", "bomb"
                )
            if problem := kind.size(content, width, height, max_megapixels):
                raise UnreadableError(problem, "bomb")
            if least_px is not None:
                image.draft(None, (least_px, least_px))
                if image.size != (width, height):
                    image.info[SMALLER] = True  # type: ignore[index]
            with _large_photo() if _is_large(image, width * height) else contextlib.nullcontext():
                yield image


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """A silent codec, whatever goes wrong with it made a reason."""
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
    path: Path, max_megapixels: float = 200, least_px: int | None = None, content_hash: str = ""
) -> Image.Image:
    """A file to an RGB image; see `decode`. `content_hash` is the SHA-256 of the photo expected there; empty: any.

    Raises UnreadableError with the reason, also if another photo lies there by now.
    """
    content = read_bytes(path)
    if content_hash and digest(content) != content_hash:
        raise UnreadableError("has changed")
    return decode(content, max_megapixels, least_px)


def photo_of(source: Path | Image.Image, max_megapixels: float = 200, content_hash: str = "") -> Image.Image:
    """A file as of `read_photo`, or an image that came from the cache, as it is."""
    return source if isinstance(source, Image.Image) else read_photo(source, max_megapixels, content_hash=content_hash)


def as_decoded(image: Image.Image) -> Image.Image:
    """A caller's image as `decode` gives one from a file: RGB, upright; the caller's is loaded and stays as it is.

    Raises UnreadableError with the reason; the file of an image that was only opened is read here.
    """
    with _reasons():
        with _loading[id(image) % len(_loading)]():  # several predictors may be given the same one
            own = image.copy()
        return to_rgb(upright(own))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB, 8 bits a channel; transparency on white, 16 bits divided by 257.

    What needs a detour goes strip by strip, so that a large photo takes the memory of its pixels and of the result.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return _in_strips(image, _from_deep_gray(image))
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


def _from_deep_gray(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """How this photo's values become 8 bits, which its largest value decides."""
    largest = 0.0
    for top in range(0, image.height, rows := max(1, STRIP_PIXELS // image.width)):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if not np.isfinite(values).all():
            raise UnreadableError("has pixels that are not numbers")
        largest = max(largest, float(values.max(initial=0)))
    multiplied = 1.0
    if image.mode == "F" and largest <= 1:
        multiplied = 255.0
    elif image.mode.startswith("I;16") or largest > 255:
        if largest > 65_535:
            raise UnreadableError(f"has pixel values up to {largest:g}, over 16 bits")
        multiplied = 1 / 257

    def converted(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip).astype(np.float64) * multiplied
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")

    return converted


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


def thumbnail_jpeg(content: bytes, side_px: int, max_megapixels: float = 200) -> bytes:
    """A small JPEG of a photo for a page, its longer side at most `side_px`; pixels alone, no metadata.

    Raises UnreadableError with the reason.
    """
    with opened(content, max_megapixels, side_px) as image:
        image.load()
        small = to_rgb(upright(image))
        small.thumbnail((side_px, side_px))
        file = io.BytesIO()
        Image.fromarray(np.asarray(small)).save(file, "JPEG", quality=75)
        return file.getvalue()


def _reason(error: Exception) -> UnreadableError:
    said = printable(str(error)).strip().splitlines()
    text = "".join(c if c.isprintable() else " " for c in said[0])[:200] if said else type(error).__name__
    lowered = text.lower()
    if "truncated" in lowered or "unexpected end" in lowered or "not enough data" in lowered:
        return UnreadableError(f"is cut off ({text})", "truncated")
    return UnreadableError(f"cannot be decoded ({text})")
