"""TrivialAugmentWide on one photo: one of 14 operations, at one of 31 strengths.

Mueller and Hutter 2021, arXiv 2103.10158, section 3, with operations and ranges of torchvision's
`v2.TrivialAugmentWide`; what moves in is black.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms.v2 import functional

STRENGTHS = 31
MOST_SHEAR, MOST_SHIFT_PX, MOST_DEGREES, MOST_BLEND = 0.99, 32.0, 135.0, 0.99
Row = tuple[float, float, float]


class Operation(NamedTuple):
    """What chance drew."""

    name: str  # of `OPERATIONS`
    strength: float  # a shear, pixels, degrees, a share of change, bits or a threshold in [0, 1]; or 0


def _up_to(most: float) -> Callable[[float], float]:
    return lambda share: most * share


# Strengths in [0, 1] to the operation's own unit, and whether half of them have the other sign.
RANGES: dict[str, tuple[Callable[[float], float], bool]] = {
    "identity": (_up_to(0), False),
    **dict.fromkeys(("shear_x", "shear_y"), (_up_to(MOST_SHEAR), True)),
    **dict.fromkeys(("translate_x", "translate_y"), (_up_to(MOST_SHIFT_PX), True)),
    "rotate": (_up_to(MOST_DEGREES), True),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (_up_to(MOST_BLEND), True)),
    "posterize": (lambda share: 8 - round(6 * share), False),
    "solarize": (lambda share: 1 - share, False),
    "auto_contrast": (_up_to(0), False),
    "equalize": (_up_to(0), False),
}
OPERATIONS = tuple(RANGES)


def draw_operation(chance: np.random.Generator) -> Operation:
    """An operation, a strength and a sign, each equally likely."""
    name = OPERATIONS[int(chance.integers(len(OPERATIONS)))]
    strength_of, is_signed = RANGES[name]
    strength = float(strength_of(int(chance.integers(STRENGTHS)) / (STRENGTHS - 1)))
    sign = -1 if chance.random() < 0.5 else 1
    return Operation(name, sign * strength if is_signed else strength)


def operation_warp(operation: Operation, side: int) -> tuple[Row, Row] | None:
    """Where a point of the output lies in a square image of that side, as two rows; None for a change of colours.

    Points are continuous, as in `draw.warp`; shears are about the upper left corner, as torchvision's.
    """
    name, strength = operation
    if name == "shear_x":
        return (1.0, strength, 0.0), (0.0, 1.0, 0.0)
    if name == "shear_y":
        return (1.0, 0.0, 0.0), (strength, 1.0, 0.0)
    if name == "translate_x":
        return (1.0, 0.0, -float(int(strength))), (0.0, 1.0, 0.0)
    if name == "translate_y":
        return (1.0, 0.0, 0.0), (0.0, 1.0, -float(int(strength)))
    if name == "rotate":
        cosine, sine, half = math.cos(math.radians(strength)), math.sin(math.radians(strength)), side / 2
        return (cosine, -sine, half * (1 - cosine + sine)), (sine, cosine, half * (1 - cosine - sine))
    return None


# torchvision's functions on Pillow's images, which let go of Python's lock.
COLOURS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "brightness": lambda image, change: functional.adjust_brightness(image, 1 + change),
    "color": lambda image, change: functional.adjust_saturation(image, 1 + change),
    "contrast": lambda image, change: functional.adjust_contrast(image, 1 + change),
    "sharpness": lambda image, change: functional.adjust_sharpness(image, 1 + change),
    "posterize": lambda image, bits: functional.posterize(image, int(bits)),
    "solarize": lambda image, share: functional.solarize(image, round(255 * share, 2)),
    "auto_contrast": lambda image, _: functional.autocontrast(image),
    "equalize": lambda image, _: functional.equalize(image),
}


def apply_operation(operation: Operation, pixels: npt.NDArray[np.uint8]) -> None:
    """Changes (side, side, 3) uint8 RGB in place; warps take the nearest pixel, as torchvision's do."""
    if operation.name == "identity":
        return
    image, rows = Image.fromarray(pixels), operation_warp(operation, len(pixels))
    if rows is None:
        made = COLOURS[operation.name](image, operation.strength)
    else:
        made = image.transform(image.size, Image.Transform.AFFINE, (*rows[0], *rows[1]), Image.Resampling.NEAREST)
    pixels[:] = np.asarray(made)
