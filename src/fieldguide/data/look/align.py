"""Lays one small print over another and tells how well they agree: the second half of finding near duplicates.

The photos may be cut by a few percent a side against each other, so the second is stretched and shifted along
both axes until its pixels fit the first best, by Gauss-Newton steps on the squared difference with a free gain
and offset (Lucas & Kanade 1981; the gain as in Baker & Matthews 2004, part 3). Everything is done for a batch
of pairs at once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, uniform_filter

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
MAX_STRETCH = 0.1
MAX_SHIFT = 0.08  # of half a side
LEAST_PLACEMENT = np.array([1 - MAX_STRETCH, -MAX_SHIFT, 1 - MAX_STRETCH, -MAX_SHIFT], np.float32)
MOST_PLACEMENT = np.array([1 + MAX_STRETCH, MAX_SHIFT, 1 + MAX_STRETCH, MAX_SHIFT], np.float32)
DETAIL_SIGMA_PX = 2.0
BLOCK_SHARE = 8  # a block is an eighth of the side


@dataclass(frozen=True)
class Agreement:
    """How well pairs agree after they were aligned; each (pairs,) float32."""

    detail: Array  # correlation of what is finer than the blur of `DETAIL_SIGMA_PX`, in [-1, 1]
    difference: Array  # largest mean absolute difference of a block's gray values, of 0 to 255


def still(pairs: int) -> Array:
    """The placement that changes nothing: (pairs, 4) with stretch and shift along x, then along y."""
    return np.tile(np.array([1, 0, 1, 0], np.float32), (pairs, 1))


def aligned(first: Array, second: Array, placement: Array, steps: int) -> Array:
    """Improves the placement of `second` over `first`, both (pairs, side, side), by some Gauss-Newton steps.

    Placements are (pairs, 4) float32, within the limits of this module.
    """
    side = first.shape[1]
    for _ in range(steps):
        laid, mask = laid_over(second, placement)
        slopes = _slopes(laid) * mask.reshape(len(mask), -1, 1)
        turned = slopes.transpose(0, 2, 1)
        # The small ridge keeps a print without any slope solvable.
        normal = turned @ slopes + np.float32(1e-5 * side * side) * np.eye(6, dtype=np.float32)
        rest = ((first - laid) * mask).reshape(len(mask), -1, 1)
        change = np.linalg.solve(normal, turned @ rest)[:, :, 0]
        gain = np.maximum(1 + change[:, 4:5], 0.3)
        placement = np.asarray(placement + change[:, :4] / gain, np.float32)
        placement = np.asarray(np.clip(placement, LEAST_PLACEMENT, MOST_PLACEMENT), np.float32)
    return placement


def laid_over(second: Array, placement: Array) -> tuple[Array, Mask]:
    """Samples `second` where the placement puts each pixel of the first: (pairs, side, side) float32.

    The mask of the same shape is True inside of `second`.
    """
    side = second.shape[1]
    across, inside_x = _weights(placement[:, 0], placement[:, 1], side)
    down, inside_y = _weights(placement[:, 2], placement[:, 3], side)
    laid = np.asarray(down @ second @ across.transpose(0, 2, 1), np.float32)
    return laid, inside_y[:, :, None] & inside_x[:, None, :]


def correlation(first: Array, second: Array, mask: Mask) -> Array:
    """Normalised cross-correlation inside of a mask, (pairs,) in [-1, 1]; 0 where one has no contrast."""
    a, b = _centred(first, mask), _centred(second, mask)
    scale = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    return np.asarray((a * b).sum((1, 2)) / np.maximum(scale, 1e-3), np.float32)


def agreement(first: Array, second: Array, placement: Array) -> Agreement:
    """How well aligned prints agree, apart from their brightness and contrast."""
    laid, mask = laid_over(second, placement)
    detail = correlation(_fine(first), _fine(laid), mask)
    a, b = _centred(first, mask), _centred(laid, mask)
    gain = (a * b).sum((1, 2)) / np.maximum((b * b).sum((1, 2)), 1e-3)
    return Agreement(detail, worst_block(np.abs(a - gain[:, None, None] * b)))


def worst_block(values: Array) -> Array:
    """The largest mean of a block, (pairs,)."""
    block = values.shape[1] // BLOCK_SHARE
    return np.asarray(uniform_filter(values, (0, block, block)).max((1, 2)), np.float32)


def _weights(stretch: Array, shift: Array, side: int) -> tuple[Array, Mask]:
    """Linear interpolation as a matrix (pairs, side, side), and which pixels lie inside (pairs, side)."""
    place = (stretch[:, None] * _axis(side) + shift[:, None] + 1) / 2 * side - 0.5
    inside = (place >= -0.5) & (place <= side - 0.5)
    place = np.clip(place, 0, side - 1)
    low = np.minimum(place.astype(np.int64), side - 2)
    share = (place - low).astype(np.float32)
    weights = np.zeros((*place.shape, side), np.float32)
    pair, pixel = np.arange(len(place))[:, None], np.arange(side)[None]
    weights[pair, pixel, low] = 1 - share
    weights[pair, pixel, low + 1] = share
    return weights, inside


def _axis(side: int) -> Array:
    """Pixel centres from -1 to 1."""
    return np.asarray((np.arange(side) + 0.5) / side * 2 - 1, np.float32)


def _slopes(laid: Array) -> Array:
    """How each pixel changes with stretch and shift along x and y, gain and offset: (pairs, side * side, 6)."""
    side = laid.shape[1]
    axis = _axis(side)
    down, across = np.gradient(laid, np.float32(2 / side), axis=(1, 2))
    made = [across * axis, across, down * axis[:, None], down, laid, np.ones_like(laid)]
    return np.stack(made, -1).reshape(len(laid), -1, 6)


def _centred(values: Array, mask: Mask) -> Array:
    """Values less their mean inside of the mask, 0 outside."""
    inside = mask.astype(np.float32)
    mean = (values * inside).sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1)
    return np.asarray((values - mean[:, None, None]) * inside, np.float32)


def _fine(values: Array) -> Array:
    return np.asarray(values - gaussian_filter(values, (0, DETAIL_SIGMA_PX, DETAIL_SIGMA_PX)), np.float32)
