"""Small pictures for a page: pixels alone, so that nothing of a photo's metadata comes along."""

import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from fieldguide.data.read.preprocess import Preprocessing, center

Pixels = npt.NDArray[np.uint8]
JPEG_QUALITY = 80


def seen(image: Image.Image, preprocessing: Preprocessing, side_px: int) -> Pixels:
    """The part of an RGB photo that the network sees, at another size, so that a map can be laid over it.

    It is (side_px, side_px, 3) uint8.
    """
    resize_px = max(side_px, round(side_px * preprocessing.resize_px / preprocessing.image_size_px))
    return np.array(center(image, replace(preprocessing, image_size_px=side_px, resize_px=resize_px)))


def stretched(map_: npt.NDArray[np.float32], side_px: int) -> npt.NDArray[np.float32]:
    """A (height, width) map in [0, 1] at the size of a thumbnail."""
    image = Image.fromarray(map_).resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(image, dtype=np.float32), 0, 1)


def jpeg(pixels: Pixels) -> bytes:
    """(height, width, 3) uint8 as a JPEG file that holds nothing but them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
