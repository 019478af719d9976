"""TrivialAugment and random erasing of a batch on its device: what `trivial_augment.py` and `erasing.py` do to a photo.

Most changes of colour are a table of 256 values a channel, so that one look-up does them for the whole batch. Nothing
here waits for the device.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fieldguide.data.augment.draw import Drawn
from fieldguide.data.augment.trivial_augment import OPERATIONS, Operation, operation_warp

LEVELS = 256
WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
TABLES = ("brightness", "contrast", "posterize", "solarize", "auto_contrast", "equalize")
NOTHING = Operation("identity", 0.0)
UNMOVED = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def names_of(drawn: Sequence[Drawn]) -> frozenset[str]:
    """What is to be done to some photos: names of `OPERATIONS` but identity, and `erasing`."""
    names = {one.operation.name for one in drawn if one.operation is not None} - {"identity"}
    return frozenset(names | ({"erasing"} if any(one.erased for one in drawn) else set()))


def extras_of(drawn: Drawn, side: int) -> npt.NDArray[np.float32]:
    """What the device needs of them, as a row: place in `OPERATIONS`, strength, warp (6), box (4)."""
    operation = drawn.operation or NOTHING
    rows = operation_warp(operation, side) or UNMOVED
    place = OPERATIONS.index(operation.name)
    return np.array([place, operation.strength, *rows[0], *rows[1], *(drawn.erased or (0,) * 4)], np.float32)


def apply_extras(
    images: torch.Tensor, extras: torch.Tensor, names: AbstractSet[str], colour: torch.Tensor
) -> torch.Tensor:
    """Changes a batch (batch, 3, side, side) uint8, on its device; gives it back channels_last.

    Args:
        extras: (batch, 12) float32, rows of `extras_of`, on the same device.
        names: what occurs in them, of `names_of`; what does not is not computed.
        colour: (3,) uint8 of what is erased.
    """
    if not names.isdisjoint(WARPS):
        images = _warped(images, extras[:, 2:8])
    if not names.isdisjoint(TABLES):
        images = _looked_up(images, extras, names)
    for name, change in (("color", _gray), ("sharpness", _smoothed)):
        if name in names:
            factor = 1 + extras[:, 1, None, None, None]
            images = torch.where(_is(name, extras), _blend(change(images).float(), images, factor), images)
    if "erasing" in names:
        steps = torch.arange(images.shape[-1], device=images.device)
        left, top, right, bottom = (edge[:, None] for edge in extras[:, 8:].unbind(dim=1))
        across, down = (steps >= left) & (steps < right), (steps >= top) & (steps < bottom)  # (batch, side)
        inside = (down[:, :, None] & across[:, None, :])[:, None]
        images = torch.where(inside, colour[:, None, None], images)
    return images.contiguous(memory_format=torch.channels_last)


def _is(name: str, extras: torch.Tensor) -> torch.Tensor:
    return (extras[:, 0] == OPERATIONS.index(name))[:, None, None, None]


def _warped(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The nearest pixel of each point, black where there is none."""
    batch, channels, side, _ = images.shape
    middles = torch.arange(side, device=images.device) + 0.5
    a, b, c, d, e, f = rows[:, :, None, None].unbind(dim=1)
    x = (a * middles + b * middles[:, None] + c).floor()  # (batch, side, side)
    y = (d * middles + e * middles[:, None] + f).floor()
    inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
    places = (y.clamp(0, side - 1) * side + x.clamp(0, side - 1)).long().reshape(batch, 1, -1)
    made = images.reshape(batch, channels, -1).gather(2, places.expand(-1, channels, -1))
    return made.reshape(images.shape) * inside[:, None]


def _looked_up(images: torch.Tensor, extras: torch.Tensor, names: AbstractSet[str]) -> torch.Tensor:
    """Each value by its photo's and channel's table, which leaves it where the photo's operation has none."""
    batch, channels = images.shape[:2]
    flat = images.reshape(batch, channels, -1).long()
    levels = torch.arange(LEVELS, device=images.device, dtype=torch.float64)
    strength = extras[:, 1, None, None].double()
    table = levels.expand(batch, channels, LEVELS)
    counts = None
    if not names.isdisjoint(("auto_contrast", "equalize")):
        counts = torch.zeros(batch, channels, LEVELS, dtype=torch.long, device=images.device)
        counts.scatter_add_(2, flat, torch.ones_like(flat))
    for name in TABLES:
        if name not in names:
            continue
        if name == "brightness":
            made = levels * (1 + strength)
        elif name == "contrast":
            mean = (_gray(images).double().mean(dim=(2, 3)) + 0.5).floor()[:, None]  # (batch, 1, 1)
            made = mean + (1 + strength) * (levels - mean)
        elif name == "posterize":
            step = 2 ** (8 - strength)
            made = (levels / step).floor() * step
        elif name == "solarize":
            made = torch.where(levels < (255 * strength).round(decimals=2), levels, 255 - levels)
        else:
            assert counts is not None
            made = _stretched(counts, levels) if name == "auto_contrast" else _equalized(counts, levels)
        table = torch.where(_is(name, extras)[:, 0], made.floor().clamp(0, 255), table)
    return table.to(torch.uint8).gather(2, flat).reshape(images.shape)


def _stretched(counts: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Pillow's ImageOps.autocontrast: the least value of a channel to 0, the largest to 255."""
    occurs = counts > 0
    least = torch.where(occurs, levels, 255.0).amin(dim=2, keepdim=True)
    largest = torch.where(occurs, levels, 0.0).amax(dim=2, keepdim=True)
    scale = 255 / (largest - least).clamp(min=1)
    return torch.where(largest > least, levels * scale - least * scale, levels)


def _equalized(counts: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Pillow's ImageOps.equalize."""
    largest = torch.where(counts > 0, levels, 0.0).amax(dim=2, keepdim=True).long()
    step = (counts.sum(dim=2, keepdim=True) - counts.gather(2, largest)) // 255
    below = counts.cumsum(dim=2) - counts
    return torch.where(step > 0, ((below + step // 2) // step.clamp(min=1)).double(), levels)


def _gray(images: torch.Tensor) -> torch.Tensor:
    """(batch, 1, side, side) int32, by the whole numbers of Pillow's mode L."""
    red, green, blue = images.int().unbind(dim=1)
    return ((19_595 * red + 38_470 * green + 7_471 * blue + 32_768) >> 16)[:, None]


def _smoothed(images: torch.Tensor) -> torch.Tensor:
    """Pillow's SMOOTH, which leaves the outermost pixels as they are; the sums are whole numbers, exact in TF32 too."""
    weights = torch.ones(3, 3, device=images.device)
    weights[1, 1] = 5
    inner = functional.conv2d(images.float().reshape(-1, 1, *images.shape[2:]), weights[None, None])
    made = images.float()
    made[:, :, 1:-1, 1:-1] = (inner / 13 + 0.5).floor().reshape(*images.shape[:2], *inner.shape[2:])
    return made


def _blend(first: torch.Tensor, images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Pillow's Image.blend, which cuts off what comes after the point."""
    return (first + factor * (images.float() - first)).clamp(0, 255).to(torch.uint8)
