"""What was drawn for a batch of photos, computed on the device."""

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.data.augment.draw import Drawn, colours, warp

MOST_SAMPLES = 3


def samples_for(side_px: int, image_size_px: int) -> int:
    """How many samples a pixel has on each axis, for photos whose shorter side is `side_px` (0: any size)."""
    scale = side_px / image_size_px if side_px else 2.0
    return max(1, min(MOST_SAMPLES, int(np.ceil(scale / np.sqrt(2)))))


def numbers_of(drawn: Drawn, side: int, width: int, height: int) -> npt.NDArray[np.float32]:
    """What the device needs of what was drawn, as a row.

    Columns 0 to 5 are the warp, to 23 the colours, to 27 the edges of the crop, to 31 the first and last pixels in it
    (x, y each), and the last two the shift.
    """
    direct, of_mean = colours(drawn)
    left, top, wide, high = drawn.crop
    edges = [left, top, left + wide, top + high]
    last = [min(width, np.ceil(edges[2])) - 1, min(height, np.ceil(edges[3])) - 1]
    first = [max(0, np.floor(left)), max(0, np.floor(top))]
    return np.concatenate(
        [*warp(drawn, side), direct.ravel(), of_mean.ravel(), edges, first, last, drawn.shift]
    ).astype(np.float32)


def augment_batch(
    pixels: torch.Tensor, places: torch.Tensor, numbers: torch.Tensor, side: int, samples: int
) -> torch.Tensor:
    """Augments a batch into (batch, 3, side, side) uint8, channels_last.

    Args:
        pixels: (pixels, 3) uint8 of many photos, one after another, row by row.
        places: (batch, 2) int64: where each photo begins, and its width.
        numbers: (batch, 34) float32, rows of `numbers_of`.
        samples: a pixel, on each axis.
    """
    batch, device = len(numbers), pixels.device
    numbers = numbers[:, :, None, None]  # (batch, 34, 1, 1), against (height, width)
    steps = torch.arange(side, device=device, dtype=torch.float32)
    images = torch.zeros(batch, side, side, 3, device=device)
    for down in range(samples):
        for across in range(samples):
            x, y = _source(numbers, steps + (across + 0.5) / samples, steps + (down + 0.5) / samples)
            images += _bilinear(pixels, places, x - 0.5, y - 0.5, numbers)
    x, y = _source(numbers, steps + 0.5, steps + 0.5)
    inside = (x >= numbers[:, 24]) & (y >= numbers[:, 25]) & (x <= numbers[:, 26]) & (y <= numbers[:, 27])
    images = images / samples**2 * inside[..., None]
    shift_x, shift_y = numbers[:, 32], numbers[:, 33]
    seen = ((steps >= shift_x) & (steps < side + shift_x)) & (
        (steps[:, None] >= shift_y) & (steps[:, None] < side + shift_y)
    )
    flat, seen = images.reshape(batch, -1, 3), seen.reshape(batch, -1, 1)
    mean = (flat * seen).sum(dim=1) / seen.sum(dim=1)  # (batch, 3)
    direct, of_mean = numbers[:, 6:15].reshape(batch, 3, 3), numbers[:, 15:24].reshape(batch, 3, 3)
    coloured = torch.baddbmm((of_mean @ mean[:, :, None]).transpose(1, 2), flat, direct.transpose(1, 2))
    made = (coloured.round().clamp(0, 255) * seen).to(torch.uint8)
    return made.reshape(batch, side, side, 3).permute(0, 3, 1, 2)


def _source(numbers: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points of the images, (width,) and (height,), lie in the photos: (batch, height, width) each."""
    y = y[:, None]
    a, b, c, d, e, f = numbers[:, :6].unbind(dim=1)
    return a * x + b * y + c, d * x + e * y + f


def _bilinear(
    pixels: torch.Tensor, places: torch.Tensor, x: torch.Tensor, y: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """(batch, height, width, 3) float32 between the four pixels around each point, which stay within the crop."""
    starts, widths = places[:, 0, None, None], places[:, 1, None, None]
    x = torch.minimum(torch.maximum(x, numbers[:, 28]), numbers[:, 30])
    y = torch.minimum(torch.maximum(y, numbers[:, 29]), numbers[:, 31])
    left, top = x.floor(), y.floor()
    right, bottom = torch.minimum(left + 1, numbers[:, 30]).long(), torch.minimum(top + 1, numbers[:, 31]).long()
    of_right, of_bottom = (x - left)[..., None], (y - top)[..., None]
    upper, lower = starts + top.long() * widths, starts + bottom * widths
    left_column = left.long()
    return (1 - of_bottom) * ((1 - of_right) * pixels[upper + left_column] + of_right * pixels[upper + right]) + (
        of_bottom * ((1 - of_right) * pixels[lower + left_column] + of_right * pixels[lower + right])
    )
