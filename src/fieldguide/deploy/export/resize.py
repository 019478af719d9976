"""The resize of `data/read/preprocess.py` inside a network: Pillow's, pixel by pixel, for photos of any size.

Runtimes resize differently: none of their own operators gives Pillow's pixels in all of them. So the resize is two
matrix multiplications with weights that are computed from the photo's size, and Pillow's rounding after each.
"""

from typing import Any, final

import torch
from torch import nn

from fieldguide.data.read.fit import GRAY
from fieldguide.data.read.preprocess import Preprocessing

HALF_OF_BITS = 2048.0  # of a weight; also a number in fp16
Side = Any  # int, or torch's symbol for one while it is traced


@final
class Resize(nn.Module):
    """`center(fitted(photo))` for a batch of photos of one size."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.resize_px, self.crop_px = preprocessing.resize_px, preprocessing.image_size_px
        self.is_bicubic = preprocessing.interpolation == "bicubic"
        self.fit = preprocessing.reading.fit

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, 3) uint8 to (batch, 3, image_size_px, image_size_px) float of whole 0 to 255."""
        channels_first = photos.permute(0, 3, 1, 2)  # of uint8, a quarter of the bytes of floats
        height, width = photos.shape[1], photos.shape[2]
        if self.fit == "crop":
            shorter = torch.minimum(_whole(height), _whole(width))
            across = self._weights(width, _whole(width) * self.resize_px // shorter)
            down = self._weights(height, _whole(height) * self.resize_px // shorter)
            return _down(down, _across(channels_first.float(), across))
        side = torch.sym_max(height, width)
        weights = self._weights(side, _whole(self.resize_px))  # (2 image_size_px, side)
        if self.fit == "squash":
            square = _stretched(_stretched(channels_first.float(), 3, width, side), 2, height, side)
            return _down(weights, _across(square, weights))
        across = weights.index_select(1, torch.arange(width) + (side - width) // 2)
        down = weights.index_select(1, torch.arange(height) + (side - height) // 2)
        bars = [GRAY[0] * (weights.sum(1) - inside.sum(1)) for inside in (across, down)]
        return _down(down, _across(channels_first.float(), across, bars[0]), bars[1])

    def _weights(self, size: Side, resized: torch.Tensor) -> torch.Tensor:
        """How much each pixel of a line adds to each pixel of the crop, as Pillow's `precompute_coeffs`.

        Args:
            size, resized: pixels of the line before and after.

        Returns:
            (2 image_size_px, size) float of whole numbers, the high and the low part; see `_parts`.
        """
        spare = resized - self.crop_px
        first = spare // 2 + (spare % 2) * (spare // 2 % 2)  # half of it, as Python rounds
        middles = 2 * (first + torch.arange(self.crop_px)).unsqueeze(1) + 1
        # in whole numbers, as far as that goes: a weight that is off by a bit of 22 turns every tie of the rounding
        longer = 2 * torch.maximum(_whole(size), resized)
        apart = ((2 * torch.arange(size) + 1) * resized - middles * size).abs()
        near = _cubic(apart.float() / longer.float()) if self.is_bicubic else (longer - apart).clamp(min=0).float()
        return torch.cat(_parts(near / near.sum(1, keepdim=True)))


def _whole(number: Side) -> torch.Tensor:
    made: torch.Tensor = torch.scalar_tensor(number, dtype=torch.int64)
    return made


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Keys 1981, equation 4, with a = -1/2, as Pillow has it."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _parts(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights in 22 bits, as Pillow has them, in two parts of 11: a float adds up products of these without error."""
    whole = (weights * HALF_OF_BITS * HALF_OF_BITS + 0.5).floor()
    high = (whole / HALF_OF_BITS).floor()
    return high, whole - high * HALF_OF_BITS


def _rounded(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Sums of products with both parts of the weights to 0 to 255, rounded as Pillow does."""
    whole = (high / HALF_OF_BITS).floor()
    rest = (high - whole * HALF_OF_BITS) * HALF_OF_BITS + low
    return (whole + (rest / HALF_OF_BITS / HALF_OF_BITS + 0.5).floor()).clamp(0, 255)


def _across(photos: torch.Tensor, weights: torch.Tensor, more: torch.Tensor | float = 0.0) -> torch.Tensor:
    high, low = (photos @ weights.T + more).chunk(2, dim=3)
    return _rounded(high, low)


def _down(weights: torch.Tensor, photos: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
    sums = weights @ photos
    high, low = (sums if more is None else sums + more.unsqueeze(1)).chunk(2, dim=2)
    return _rounded(high, low)


def _stretched(photos: torch.Tensor, dimension: int, size: Side, side: Side) -> torch.Tensor:
    """A dimension of `size` pixels as `side` pixels, at least as many, bilinear: each from two neighbours."""
    twice = 2 * _whole(side)
    doubled = (2 * torch.arange(side) + 1) * size - side
    before = torch.div(doubled, twice, rounding_mode="floor")
    share = (doubled - before * twice).float() / twice.float()
    share = share.unsqueeze(1) if dimension == 2 else share
    one = photos.index_select(dimension, before.clamp(min=0))
    other = photos.index_select(dimension, (before + 1).clamp(max=size - 1))
    here, there = _parts(1 - share), _parts(share)
    return _rounded(one * here[0] + other * there[0], one * here[1] + other * there[1])
