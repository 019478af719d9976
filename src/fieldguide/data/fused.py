"""The report's augmentations in one resample and one colour transform a photo. The only one that knows OpenCV.

What `draw` drew is composed into one affine warp and one 3x3 matrix with an offset, where torchvision resamples up to
three times and walks over the photo ten. The differences to it, each held by a test:

- The resample is bilinear, from a photo whose side was halved (by means of 2 x 2 pixels) while the crop is more than
  1.4 times the output; torchvision's crop has a filter as wide as the crop needs, and its rotation takes the nearest.
- Values are clipped to [0, 255] once, after all colours.
- Hue turns colours about the gray axis (`draw.hue_rotation`), since HSV's shift is no matrix.
- The mean that contrast needs leaves out what the translation moved away and moved in.

As in the reference, what the rotation turns in is black before the colours (so that contrast lifts it to a gray), and
what the translation moves in is black after them.
"""

import contextlib
import functools
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.data.augment import Policy
from fieldguide.data.draw import Drawn, colours, corners, draw, warp
from fieldguide.data.preprocess import Preprocessing

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
    """Augments a photo by what was drawn.

    Args:
        drawn: for a photo of this size.
        photo: (height, width, 3) uint8; not changed.
        output: (side, side, 3) uint8, contiguous; overwritten.
    """
    import cv2

    side = output.shape[0]
    region, to_region = _region(drawn, photo, side)
    cv2.warpAffine(
        region,
        to_region,
        (side, side),
        dst=output,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if drawn.angle:
        for beyond in _beyond(corners(drawn, side), side):
            cv2.fillConvexPoly(output, beyond, (0, 0, 0), shift=SUBPIXEL_BITS)
    across, down = _seen(drawn.shift[0], side), _seen(drawn.shift[1], side)
    if drawn.jitters:
        direct, of_mean = colours(drawn)
        mean = np.array(cv2.mean(output[down, across])[:3])
        cv2.transform(output, np.column_stack([direct, of_mean @ mean]), dst=output)
    if any(drawn.shift):
        output[: down.start] = output[down.stop :] = 0
        output[:, : across.start] = output[:, across.stop :] = 0


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
    matrix = warp(drawn, side)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - first  # from the middles of pixels
    matrix /= np.exp2(halvings)[:, None]
    matrix[:, 2] -= 0.5  # to the middles of pixels
    return region, matrix


SUBPIXEL_BITS = 4


def _beyond(corner: npt.NDArray[np.float64], side: int) -> Iterator[npt.NDArray[np.int32]]:
    """What lies beyond each edge of the turned crop, as a polygon of pixels' middles in fixed point."""
    for start, end in zip(corner, np.roll(corner, -1, axis=0), strict=True):
        along = (end - start) / side
        outwards = np.array([along[1], -along[0]])
        start, end = start - side * along + outwards / 2, end + side * along + outwards / 2
        polygon = np.array([start, end, end + side * outwards, start + side * outwards]) - 0.5
        yield np.rint(polygon * 2**SUBPIXEL_BITS).astype(np.int32)


def _seen(shift: int, side: int) -> slice:
    """The part of an axis that shows the photo after it was moved."""
    return slice(max(0, shift), side + min(0, shift))
