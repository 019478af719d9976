"""MixUp and CutMix: one image made from two photos of the batch."""

import math
from dataclasses import dataclass

import numpy as np
import torch

OWN_STREAM = 0x4D6978  # separates these random numbers from others of the same (seed, epoch)


@dataclass(frozen=True)
class Mix:
    """How each image of a batch is made from a photo and its partner, the photo before it in the batch.

    Batches are in random order, so the partner is random. The first photo's partner is the last, as in torchvision's
    `v2.MixUp` and `v2.CutMix`. A single photo is its own partner.
    """

    share: float  # of the photo in the image, in [0, 1] (lambda in both papers); the rest is the partner's
    box: tuple[int, int, int, int] | None = None  # CutMix: left, top, right, bottom in px; MixUp (None): weighted mean

    def images(self, photos: torch.Tensor) -> torch.Tensor:
        """Mixes photos, (batch, 3, height, width) float32; the result has the same shape, the input is unchanged."""
        if self.box is None:
            return photos.lerp(before(photos), 1 - self.share)
        left, top, right, bottom = self.box
        mixed = photos.clone()
        mixed[:, :, top:bottom, left:right] = before(photos[:, :, top:bottom, left:right])
        return mixed

    def larger(self, labels: torch.Tensor, partners: torch.Tensor) -> torch.Tensor:
        """The classes with the larger share; these count as right."""
        return labels if self.share >= 0.5 else partners


def before(batch: torch.Tensor) -> torch.Tensor:
    """The row before each row, the last before the first; keeps the memory format, unlike `torch.roll`."""
    return torch.cat([batch[-1:], batch[:-1]])


@dataclass(frozen=True)
class Mixing:
    """Draws how a step's photos are mixed; depends on (seed, epoch, step) alone.

    MixUp: Zhang et al. 2018, arXiv 1710.09412, section 2. CutMix: Yun et al. 2019, arXiv 1905.04899, section 3.1. One
    share per batch, as in both papers' programs. If both have an alpha, half of the mixed batches are of each kind.
    """

    mixup_alpha: float  # the share is drawn from Beta(alpha, alpha); 0: off
    cutmix_alpha: float
    probability: float  # that a batch is mixed
    seed: int

    def draw(self, epoch: int, step: int, height: int, width: int) -> Mix | None:
        """The mix for a step's photos of this size in pixels; None: not mixed."""
        chance = np.random.default_rng([self.seed, epoch, step, OWN_STREAM])
        happens, kind, across, down = chance.random(4).tolist()
        if happens >= self.probability or not (self.mixup_alpha or self.cutmix_alpha):
            return None
        cuts = self.cutmix_alpha > 0 and (self.mixup_alpha == 0 or kind < 0.5)
        alpha = self.cutmix_alpha if cuts else self.mixup_alpha
        share = float(chance.beta(alpha, alpha))
        return cut(share, across, down, height, width) if cuts else Mix(share)


def cut(share: float, across: float, down: float, height: int, width: int) -> Mix:
    """CutMix's box (section 3.1, equation 2) around (across, down), each in [0, 1) of the size, clipped to the image.

    `share` is what the photo would keep if the box were not clipped; the mix has its share after clipping.
    """
    side = math.sqrt(1 - share)
    wide, high = int(width * side), int(height * side)
    left, top = int(across * width) - wide // 2, int(down * height) - high // 2
    box = max(0, left), max(0, top), min(width, left + wide), min(height, top + high)
    return Mix(1 - (box[2] - box[0]) * (box[3] - box[1]) / (width * height), box)
