"""The report's augmentations in one resample and one colour transform a photo. The only one that knows OpenCV.

What `draw` drew is composed into one affine warp and one 3x3 matrix with an offset, where torchvision resamples up to
three times and walks over the photo ten. The differences to it, each held by a test:

- The resample is bilinear, from a photo whose side was halved (by means of 2 x 2 pixels) while the crop is more than
  1.4 times the output; torchvision's crop has a filter as wide as the crop needs, and its rotation takes the nearest.
- Values are clipped to [0, 255] once, after all colours.
- Hue turns colours about the gray axis (`draw.hue_rotation`), since HSV's shift is no matrix.
- The mean that contrast needs leaves out what the translation moved away and moved in.

As in the reference, what the rotation turns in is black before the colours (so that contrast lifts it to a gray), and
what the translation moves in is black after them. TrivialAugment and random erasing come last, as torchvision's.
"""

import contextlib
import functools
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.data.augment.draw import Drawn, colours, draw, warp
from fieldguide.data.augment.erasing import erase
from fieldguide.data.augment.trivial_augment import apply_operation
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.settings import Policy

Pixels = npt.NDArray[np.uint8]
FusedAugment = Callable[[Pixels, int, Pixels], None]


def is_installed() -> bool:
    """Whether OpenCV is there; it is not imported for the answer."""
    return importlib.util.find_spec("cv2") is not None


@contextlib.contextmanager
def one_thread_a_call() -> Iterator[None]:
    """OpenCV without threads of its own, since photos are the unit of work; its setting is one for the process."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def fused(policy: Policy, preprocessing: Preprocessing) -> FusedAugment:
    """A policy as a function of a photo (height, width, 3), a seed, and where to: (side, side, 3), all uint8 RGB."""
    return functools.partial(_augment, policy, preprocessing)


def _augment(policy: Policy, preprocessing: Preprocessing, photo: Pixels, seed: int, output: Pixels) -> None:
    height, width = photo.shape[:2]
    apply(draw(policy, preprocessing, width, height, seed), photo, output)


def apply(drawn: Drawn, photo: Pixels, output: Pixels) -> None:
    """Augments a photo (height, width, 3) uint8, which is not changed, by what was drawn for its size.

    The output is (side, side, 3) uint8, contiguous, and overwritten.
    """
    import cv2

    side = output.shape[0]
    region, to_region = _region(drawn, photo, side)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(region, to_region, (side, side), dst=output, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if drawn.angle:
        for beyond in _beyond(drawn, side):  # fillPoly would do all four at once, with ten times as many wrong pixels
            cv2.fillConvexPoly(output, beyond, (0, 0, 0), shift=SUBPIXEL_BITS)
    across, down = _seen(drawn.shift[0], side), _seen(drawn.shift[1], side)
    if drawn.jitters:
        matrix = np.empty((3, 4))
        matrix[:, :3], of_mean = colours(drawn)
        matrix[:, 3] = of_mean @ cv2.mean(output[down, across])[:3]
        cv2.transform(output, matrix, dst=output)
    if any(drawn.shift):
        output[: down.start] = output[down.stop :] = 0
        output[:, : across.start] = output[:, across.stop :] = 0
    if drawn.operation is not None:
        apply_operation(drawn.operation, output)
    if drawn.erased is not None:
        erase(drawn.erased, drawn.erased_colour, output)


def _region(drawn: Drawn, photo: Pixels, side: int) -> tuple[Any, npt.NDArray[np.float64]]:
    """The crop, halved as often as it is too fine for the output, and the map from output pixels to its pixels."""
    import cv2

    left, top, width, height = drawn.crop
    first = max(0, math.floor(left)), max(0, math.floor(top))
    region: Any = photo[first[1] : math.ceil(top + height), first[0] : math.ceil(left + width)]
    halvings = [max(0, round(math.log2(length / side))) for length in (width, height)]
    for turn in range(max(halvings)):
        down, across = (2 if turn < halvings[axis] and region.shape[1 - axis] > 1 else 1 for axis in (1, 0))
        new = region.shape[1] // across, region.shape[0] // down
        # Bilinear at exactly half the size is the mean of 2 pixels on each axis.
        region = cv2.resize(region[: new[1] * down, : new[0] * across], new, interpolation=cv2.INTER_LINEAR)
    rows = [
        (a / 2**halved, b / 2**halved, ((a + b) / 2 + c - start) / 2**halved - 0.5)  # between the middles of pixels
        for (a, b, c), halved, start in zip(warp(drawn, side), halvings, first, strict=True)
    ]
    return region, np.array(rows)


SUBPIXEL_BITS = 4
# What lies above the square from (-1, -1) to (1, 1), as a polygon, and beyond its other edges.
ABOVE = np.array([[-3.0, -1.0], [3.0, -1.0], [3.0, -3.0], [-3.0, -3.0]])
BEYOND = np.stack([ABOVE, ABOVE[:, ::-1] * (-1, 1), -ABOVE, ABOVE[:, ::-1] * (1, -1)])


def _beyond(drawn: Drawn, side: int) -> npt.NDArray[np.int32]:
    """What lies beyond the edges of the turned crop: (4, 4, 2), four polygons of pixels' middles in fixed point."""
    angle = math.radians(drawn.angle)
    half = side / 2 + 0.5  # a polygon's edge covers the pixels on it, and those belong to the photo
    cosine, sine = half * math.cos(angle), half * math.sin(angle)
    turned = BEYOND @ np.array([[cosine, -sine], [sine, cosine]])
    turned += (side / 2 + drawn.shift[0] - 0.5, side / 2 + drawn.shift[1] - 0.5)
    fixed_point: npt.NDArray[np.int32] = np.rint(turned * 2**SUBPIXEL_BITS).astype(np.int32)
    return fixed_point


def _seen(shift: int, side: int) -> slice:
    """The part of an axis that shows the photo after it was moved."""
    return slice(max(0, shift), side + min(0, shift))
