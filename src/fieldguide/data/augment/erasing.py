"""Random erasing: a rectangle of the image becomes the mean colour, which is 0 after normalisation.

Zhong et al. 2017, arXiv 1708.04896, algorithm 1, with the ranges of torchvision's `v2.RandomErasing`. The images are
uint8, so the colour is the preprocessing's mean rounded to 1/255.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SCALE, RATIO = (0.02, 0.33), (0.3, 3.3)  # shares of the area; height to width
TRIES = 10  # torchvision's: after so many that do not fit, nothing is erased
Box = tuple[int, int, int, int]


def fill_colour(mean: Sequence[float]) -> tuple[int, int, int]:
    """The preprocessing's mean, in [0, 1], as a colour of 256 levels."""
    red, green, blue = (min(255, max(0, round(255 * value))) for value in mean)
    return red, green, blue


def draw_box(probability: float, side: int, chance: np.random.Generator) -> Box | None:
    """left, top, right, bottom in pixels of a square image of that side, as RandomErasing draws them; or nothing."""
    if chance.random() >= probability:
        return None
    shapes = [math.log(ratio) for ratio in RATIO]
    for _ in range(TRIES):
        share, shape, across, down = chance.random(4).tolist()
        area = side * side * (SCALE[0] + share * (SCALE[1] - SCALE[0]))
        ratio = math.exp(shapes[0] + shape * (shapes[1] - shapes[0]))
        high, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if high < side and wide < side:
            left, top = int(across * (side - wide + 1)), int(down * (side - high + 1))
            return left, top, left + wide, top + high
    return None


def erase(box: Box, colour: tuple[int, int, int], pixels: npt.NDArray[np.uint8]) -> None:
    """Changes (side, side, 3) uint8 RGB in place."""
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = colour
