"""Files whose pixels Pillow misreads, or gives with 8 bits where there are more: read here, as an image of 8 bits."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fieldguide.data.read import deep, tiff
from fieldguide.data.read.reading import Reading
from fieldguide.data.read.unreadable import UnreadableError

Array = npt.NDArray[Any]
# Keys of an image's `info`, which no file can hold.
VALUES = object()  # `Values`, where there were more than 8 bits
OUTSIDE = object()  # some were outside `value_range`, and are clipped
UNDECIDED = object()  # nothing decided their range: no training photo had such values
MASK_SHARE = object()  # of a TIFF with an alpha band: the share of it that is fully transparent or opaque
ORIENTATION_TAG = 0x0112


def tiff_instead(content: bytes, header: tiff.Header, reading: Reading, *, looks: bool) -> Image.Image | None:
    """A TIFF that Pillow is not to read, as an image of 8 bits; None where Pillow is right.

    `looks` also measures the values. Raises UnreadableError with the reason.
    """
    chooses = reading.bands is not None and header.bands > 3
    ignores = reading.alpha == "ignore" and header.has_alpha and not chooses
    if header.is_for_pillow and not chooses and not ignores:
        return None
    if header.photometric not in (*tiff.GRAY, tiff.RGB):
        raise UnreadableError(f"is a TIFF of photometric {header.photometric} in planes, which cannot be read")
    demand_bands(header, reading)
    if header.kind == "other" or header.bits > 64:
        raise UnreadableError(f"is a TIFF with values of {header.bits} bits that are no integers and no floats")
    try:
        array = tiff.read_tiff(content, header, reading.max_megapixels)
    except tiff.CodecError:
        is_colour = header.photometric == tiff.RGB and header.bands in (3, 4) and not header.is_planar
        if header.bits != 16 or not is_colour or chooses:
            raise
        array = by_opencv(content)
    image = in_8_bits(_chosen(array, header, reading), reading, looks=looks, has_alpha=header.has_alpha and not chooses)
    if header.photometric == 0:  # white is zero
        image = Image.fromarray(255 - np.asarray(image))
    image.format = "TIFF"
    if header.orientation != 1:
        image.getexif()[ORIENTATION_TAG] = header.orientation
    return image


def demand_bands(header: tiff.Header, reading: Reading) -> None:
    """Raises UnreadableError where nobody said which bands are red, green and blue."""
    if header.colours == 1 or header.photometric == tiff.RGB:
        return
    if reading.bands is None:
        choose = "three of them are chosen when training, such as data.bands=[3,2,1]"
        if header.bands < 3:
            choose = "name one of them three times when training, such as data.bands=[1,1,1]"
        raise UnreadableError(f"is a TIFF of {header.bands:,} bands; {choose}", "bands")
    if max(reading.bands) > header.bands:
        raise UnreadableError(f"is a TIFF of {header.bands:,} bands, but data.bands is {list(reading.bands)}", "bands")


def _chosen(array: Array, header: tiff.Header, reading: Reading) -> Array:
    """Gray, three colours, or either with alpha: (height, width, 1 to 4)."""
    needs = header.bands > 3 or (header.colours > 1 and header.photometric != tiff.RGB)
    if reading.bands is not None and needs:
        if max(reading.bands) > header.bands:
            raise UnreadableError(
                f"is a TIFF of {header.bands:,} bands, but data.bands is {list(reading.bands)}", "bands"
            )
        return array[..., [band - 1 for band in reading.bands]]
    colours = 3 if header.photometric == tiff.RGB else 1
    return array[..., [*range(colours), header.bands - 1]] if header.has_alpha else array[..., :colours]


def deep_png(content: bytes, image: Image.Image, reading: Reading, *, looks: bool) -> Image.Image:
    """A loaded PNG of 16 bits a channel in colour, of which Pillow keeps the upper 8, with all of them first.

    Raises UnreadableError if the two decoders do not agree, or one is missing where the 8 bits would not do.
    """
    array = by_opencv(content)
    upper = np.asarray(image.convert("RGBA" if array.shape[-1] == 4 else "RGB"))
    if array.shape != upper.shape or not np.array_equal(array >> 8, upper):
        raise UnreadableError("has pixels that two decoders read differently; save it again")
    made = in_8_bits(array, reading, looks=looks, has_alpha=array.shape[-1] == 4)
    made.format, made.info = image.format, {**image.info, **made.info}
    made.info.pop("transparency", None)
    return made


def by_opencv(content: bytes) -> Array:
    """16-bit colour as it is in the file, (height, width, 3 or 4) RGB; raises UnreadableError."""
    try:
        import cv2
    except ImportError:
        raise UnreadableError("has 16 bits a colour, which needs OpenCV; pip install opencv-python-headless") from None
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise UnreadableError("has 16 bits a colour and cannot be decoded with all of them")
    return array[..., [2, 1, 0, 3][: array.shape[-1]]]


def in_8_bits(array: Array, reading: Reading, *, looks: bool, has_alpha: bool) -> Image.Image:
    """(height, width, 1 to 4) values as an image of 8 bits, with what is to be known of them in its `info`."""
    colours = array[..., :-1] if has_alpha else array
    info: dict[Any, Any] = {}
    if not deep.is_deep(array):
        made = colours
    else:
        values = deep.measured(colours, with_quantiles=looks)
        if values is None:
            raise UnreadableError("has pixels that are not numbers")
        ranges = reading.value_range or deep.own_range(values)
        value_range = ranges.of(values.kind)
        info[VALUES] = values
        if not ranges.is_known(values.kind):
            info[UNDECIDED] = True
        if deep.is_outside(values, value_range):
            info[OUTSIDE] = True
        made = deep.to_8_bits(colours, value_range)
    if has_alpha:
        alpha = _alpha(array[..., -1:])
        info[MASK_SHARE] = float(np.isin(alpha, (0, 255)).mean())
        if reading.alpha == "white":
            made = np.concatenate([made, alpha], axis=-1)
    image = Image.fromarray(np.ascontiguousarray(made[..., 0] if made.shape[-1] == 1 else made))
    image.info |= info
    return image


def _alpha(band: Array) -> Array:
    if not deep.is_deep(band):
        return band
    most = 1.0 if band.dtype.kind == "f" else float(np.iinfo(band.dtype).max)
    return deep.to_8_bits(np.nan_to_num(band), (0.0, most))


def deep_gray(image: Image.Image, reading: Reading, *, looks: bool) -> Image.Image:
    """One of Pillow's deep gray modes as gray of 8 bits; raises UnreadableError if it has values that are no numbers.

    The whole photo is looked at before a pixel is converted, in strips so that memory stays bounded.
    """
    array = np.asarray(image)[..., None]
    made = in_8_bits(array, reading, looks=looks, has_alpha=False)
    image.info |= {key: value for key, value in made.info.items() if key in (VALUES, OUTSIDE, UNDECIDED)}
    return made
