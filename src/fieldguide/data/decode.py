"""A file to RGB pixels, the same way for training, validation and prediction. The only one that knows the codec."""

import contextlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fieldguide.errors import PhotosError

MAX_FILE_BYTES = 2**30
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


class UnreadableError(PhotosError):
    """A file that is no photo; the text is the reason, without the file's name.

    Args:
        reason: what is wrong, as the end of a sentence that begins with the file's name.
        kind: `unreadable`, `empty`, `truncated`, `not_an_image` or `bomb`.
    """

    def __init__(self, reason: str, kind: str = "unreadable") -> None:
        self.kind = kind
        super().__init__(reason)


class _QuietCodec:
    """Silences Pillow's remarks and its bound on pixels while any thread decodes.

    Both are one for the whole process, so the first thread in saves them and the last one out restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")  # odd metadata; what matters raises
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None  # `max_megapixels` is checked before pixels are decoded
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._before.close()


_quiet_codec = _QuietCodec()


def read_bytes(path: Path) -> bytes:
    """A regular file's content.

    Raises:
        UnreadableError: not a regular file, empty, too large, or the system refuses.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        if status.st_size == 0:
            raise UnreadableError("is empty", "empty")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableError(f"is a file of {status.st_size:,} bytes")
        return path.read_bytes()
    except UnreadableError:
        raise
    except FileNotFoundError:
        raise UnreadableError("does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise UnreadableError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def decode(content: bytes, max_megapixels: float = 200, least_px: int | None = None) -> Image.Image:
    """Decodes a photo to mode RGB, upright, its first frame, transparency on white.

    Args:
        content: a JPEG, PNG, WebP, BMP, TIFF or GIF file.
        max_megapixels: a larger photo is refused before its pixels take memory.
        least_px: decode a JPEG at a half, a quarter or an eighth of its size as long as both sides keep this many
            pixels (libjpeg scales in the frequency domain; Pillow's draft mode). None: at its own size.

    Raises:
        UnreadableError: with the reason.
    """
    with opened(content, max_megapixels) as image:
        if least_px is not None:
            image.draft(None, (least_px, least_px))
        image.load()
        return to_rgb(upright(image))


@contextlib.contextmanager
def opened(content: bytes, max_megapixels: float = 200) -> Iterator[Image.Image]:
    """A photo whose header is read and whose pixels are not; what goes wrong inside becomes a reason.

    Raises:
        UnreadableError: with the reason; also for whatever the codec raises in the body.
    """
    with _quiet_codec():
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > max_megapixels * 1e6:
                    raise UnreadableError(
                        f"has {image.width:,} x {image.height:,} pixels, over data.max_megapixels {max_megapixels:g}",
                        "bomb",
                    )
                yield image
        except UnreadableError:
            raise
        except UnidentifiedImageError:
            raise UnreadableError("is not an image that can be read", "not_an_image") from None
        except MemoryError:
            raise UnreadableError("needs more memory than there is") from None
        except Exception as error:  # a codec raises whatever it likes on damaged input
            raise _reason(error) from None


def read_photo(path: Path, max_megapixels: float = 200, least_px: int | None = None) -> Image.Image:
    """A file to an RGB image; see `decode`.

    Raises:
        UnreadableError: with the reason.
    """
    return decode(read_bytes(path), max_megapixels, least_px)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB, 8 bits a channel; transparency on white, 16 bits divided by 257."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return _from_deep_gray(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep_gray(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableError("holds pixels that are no numbers")
    largest = float(values.max(initial=0))
    if image.mode == "F" and largest <= 1:
        values = values * 255
    elif image.mode.startswith("I;16") or largest > 255:
        if largest > 65_535:
            raise UnreadableError(f"has pixel values up to {largest:g}, over 16 bits")
        values = values / 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation; broken EXIF data counts as none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the orientation is a courtesy of the camera: unreadable means not given
        return image


def shrunk(image: Image.Image, side_px: int) -> Image.Image:
    """An RGB photo squeezed into a square, whatever its shape; averages pixels, so that no detail flickers."""
    return image.resize((side_px, side_px), Image.Resampling.BILINEAR, reducing_gap=3.0)


def thumbnail_jpeg(content: bytes, side_px: int, max_megapixels: float = 200) -> bytes:
    """A small JPEG of a photo for a page, its longer side at most `side_px`; pixels alone, no metadata.

    Raises:
        UnreadableError: with the reason.
    """
    with opened(content, max_megapixels) as image:
        image.draft(None, (side_px, side_px))
        image.load()
        small = to_rgb(upright(image))
        small.thumbnail((side_px, side_px))
        file = io.BytesIO()
        Image.fromarray(np.asarray(small)).save(file, "JPEG", quality=75)
        return file.getvalue()


def _reason(error: Exception) -> UnreadableError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    lowered = text.lower()
    if "truncated" in lowered or "unexpected end" in lowered or "not enough data" in lowered:
        return UnreadableError(f"is cut off ({text})", "truncated")
    return UnreadableError(f"cannot be decoded ({text})")
