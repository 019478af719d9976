"""A photo's fused augmentation as numbers: what chance drew, and the one warp and the one colour matrix it comes to.

The distributions are those of torchvision's RandomResizedCrop, RandomHorizontalFlip, RandomVerticalFlip,
RandomRotation, ColorJitter and RandomAffine (its `get_params`), in the report's order: crop, flips, rotation, colours,
translation; then TrivialAugment and random erasing, from random numbers of their own, so that they change no others.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fieldguide.data.augment.erasing import Box, draw_box, fill_colour
from fieldguide.data.augment.trivial_augment import Operation, draw_operation
from fieldguide.data.read.preprocess import Preprocessing, center_box
from fieldguide.settings import Policy

Matrix = npt.NDArray[np.float64]
Row = tuple[float, float, float]

TRIES = 10  # torchvision's: after so many crops that do not fit, the centre
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's mode L
GRAY = np.outer(np.ones(3), LUMA)
OPERATION_STREAM, ERASING_STREAM = 1, 2
JITTERS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What chance drew for one photo, once."""

    crop: tuple[float, float, float, float]  # left, top, width, height in pixels of the photo
    horizontal_flip: bool
    vertical_flip: bool
    angle: float  # of the rotation, in degrees counter-clockwise
    jitters: tuple[tuple[str, float], ...]  # (name of `JITTERS`, value); a factor, for hue a share of the circle
    shift: tuple[int, int]  # right and down, in pixels of the output
    operation: Operation | None = None  # of TrivialAugment, None without it
    erased: Box | None = None  # left, top, right, bottom in pixels of the output; None: nothing
    erased_colour: tuple[int, int, int] = (0, 0, 0)  # RGB


def draw(policy: Policy, preprocessing: Preprocessing, width: int, height: int, seed: int) -> Drawn:
    """Draws for a photo of a size in pixels from a generator of its own, so that it depends on the arguments alone.

    Where the policy has no crop, it is the preprocessing's. The seed is of `photo_seed`.
    """
    chance = np.random.default_rng(seed)
    crop = center_box(width, height, preprocessing)
    if policy.crop_scale is not None:
        crop = _crop(policy, width, height, chance)
    horizontal, vertical, turn = chance.random(3).tolist()
    jitters = _jitters(policy, chance)
    most = policy.translation_share * preprocessing.image_size_px
    right, down = (round(move) for move in chance.uniform(-most, most, 2).tolist())
    operation = erased = None
    if policy.trivial_augment == "wide":
        operation = draw_operation(np.random.default_rng([seed, OPERATION_STREAM]))
    if policy.erasing:
        own = np.random.default_rng([seed, ERASING_STREAM])
        erased = draw_box(policy.erasing, preprocessing.image_size_px, own)
    return Drawn(
        crop=crop,
        horizontal_flip=horizontal < policy.horizontal_flip,
        vertical_flip=vertical < policy.vertical_flip,
        angle=policy.rotation_degrees * (2 * turn - 1),
        jitters=jitters,
        shift=(right, down),
        operation=operation,
        erased=erased,
        erased_colour=fill_colour(preprocessing.mean) if erased else (0, 0, 0),
    )


def _crop(policy: Policy, width: int, height: int, chance: np.random.Generator) -> tuple[float, float, float, float]:
    """RandomResizedCrop.get_params: an area, a shape, and a place for it; the centre where none fits."""
    assert policy.crop_scale is not None
    shapes = [math.log(ratio) for ratio in policy.crop_ratio]
    for _ in range(TRIES):
        share, shape, across, down = chance.random(4).tolist()
        area = width * height * (policy.crop_scale[0] + share * (policy.crop_scale[1] - policy.crop_scale[0]))
        ratio = math.exp(shapes[0] + shape * (shapes[1] - shapes[0]))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(across * (width - wide + 1)), int(down * (height - high + 1)), wide, high
    wide, high = width, height
    if width / height < policy.crop_ratio[0]:
        high = max(1, min(height, round(width / policy.crop_ratio[0])))
    elif width / height > policy.crop_ratio[1]:
        wide = max(1, min(width, round(height * policy.crop_ratio[1])))
    return (width - wide) // 2, (height - high) // 2, wide, high


def _jitters(policy: Policy, chance: np.random.Generator) -> tuple[tuple[str, float], ...]:
    strengths = (policy.brightness, policy.contrast, policy.saturation, policy.hue)
    if not any(strengths):
        return ()
    order, values = chance.permutation(4).tolist(), chance.random(4).tolist()
    drawn = []
    for place in order:
        strength, value = strengths[place], values[place]
        if strength:
            lowest = -strength if place == 3 else 1 - strength
            highest = strength if place == 3 else 1 + strength
            drawn.append((JITTERS[place], lowest + value * (highest - lowest)))
    return tuple(drawn)


def warp(drawn: Drawn, side: int) -> tuple[Row, Row]:
    """The map from the output back into the photo, crop, flips, rotation and translation in one.

    Two rows of three take a point of the output, in pixels, to a point of the photo. Points are continuous: a pixel
    covers [i, i + 1), its middle is at i + 0.5. It rotates about the output's middle, as Pillow and torchvision do.
    """
    left, top, width, height = drawn.crop
    angle = math.radians(drawn.angle)
    across = width / side * (-1 if drawn.horizontal_flip else 1)
    down = height / side * (-1 if drawn.vertical_flip else 1)
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b, c, d = across * cosine, -across * sine, down * sine, down * cosine
    x, y = side / 2 + drawn.shift[0], side / 2 + drawn.shift[1]  # what the output's middle became
    return (a, b, left + width / 2 - a * x - b * y), (c, d, top + height / 2 - c * x - d * y)


def colours(drawn: Drawn) -> tuple[Matrix, Matrix]:
    """The colour transform as two matrices, (3, 3) float64: `x -> direct @ x + of_mean @ mean`.

    `mean` is the photo's mean colour before the transform; contrast is the only jitter that needs it, and it is linear
    in it. What torchvision clips to [0, 255] between two jitters is clipped once, at the end.
    """
    direct, of_mean = np.eye(3), np.zeros((3, 3))
    for name, value in drawn.jitters:
        if name == "contrast":
            gray = (1 - value) * GRAY @ (direct + of_mean)
            direct, of_mean = value * direct, value * of_mean + gray
            continue
        if name == "brightness":
            step = value * np.eye(3)
        elif name == "saturation":
            step = value * np.eye(3) + (1 - value) * GRAY
        else:
            step = hue_rotation(value)
        direct, of_mean = step @ direct, step @ of_mean
    return direct, of_mean


def hue_rotation(share: float) -> Matrix:
    """A turn of the colours about the gray axis of RGB by `share` of the circle.

    It keeps grays, and is exactly torchvision's shift of HSV's hue for thirds of the circle. In between no matrix is:
    for 0.1 of the circle it is off by 4.5 of 256 levels in the mean over photos (the shift itself is 6.6), where a turn
    in YIQ is off by 7.8 (docs/performance.md).
    """
    angle = 2 * math.pi * share
    even = (1 - math.cos(angle)) / 3
    odd = math.sin(angle) / math.sqrt(3)
    own = even + math.cos(angle)
    return np.array([[own, even - odd, even + odd], [even + odd, own, even - odd], [even - odd, even + odd, own]])
