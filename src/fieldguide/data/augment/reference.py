"""Augmentations by torchvision's own transforms, with random numbers that depend on (seed, epoch, photo) alone."""

import functools
import hashlib
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fieldguide.data.augment.erasing import RATIO, SCALE, fill_colour
from fieldguide.data.read.preprocess import Preprocessing, center
from fieldguide.settings import Policy

INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
Augment = Callable[[Image.Image, int], Image.Image]


def photo_seed(seed: int, epoch: int, file: str, draw: int = 0) -> int:
    """A number in [0, 2**63) that depends on these alone: on no worker, batch or process.

    Epochs are counted over the whole run; `draw` is how often the photo came before in this one.
    """
    text = (f"{seed}\0{epoch}\0{file}" + (f"\0{draw}" if draw else "")).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def reference(policy: Policy, preprocessing: Preprocessing) -> Augment:
    """torchvision's transforms with their defaults (rotation and translation: nearest, black corners).

    They take an RGB photo of any size and a seed, give one of `image_size_px` square, and leave torch's generator as it
    was.
    """
    transforms = v2.Compose(_transforms(policy, preprocessing))
    return functools.partial(_augment, transforms, preprocessing if policy.crop_scale is None else None)


def _augment(transforms: v2.Compose, centre_first: Preprocessing | None, image: Image.Image, seed: int) -> Image.Image:
    """No closure, since a worker that is spawned gets its augmentation pickled."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach for the GPU's generators too
        if centre_first is not None:
            image = center(image, centre_first)
        made: Image.Image = transforms(image)
        return made


def _transforms(policy: Policy, preprocessing: Preprocessing) -> list[torch.nn.Module]:
    """The report's order, crop, flips, rotation, colours, translation, then the rest; what does nothing is left out."""
    size = preprocessing.image_size_px
    steps: list[torch.nn.Module] = []
    if policy.crop_scale is not None:
        how = INTERPOLATION[preprocessing.interpolation]
        steps.append(v2.RandomResizedCrop(size, policy.crop_scale, policy.crop_ratio, how, antialias=True))
    if policy.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(policy.horizontal_flip))
    if policy.vertical_flip:
        steps.append(v2.RandomVerticalFlip(policy.vertical_flip))
    if policy.rotation_degrees:
        steps.append(v2.RandomRotation(policy.rotation_degrees))
    if policy.brightness or policy.contrast or policy.saturation or policy.hue:
        steps.append(v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue))
    if policy.translation_share:
        steps.append(v2.RandomAffine(0, translate=(policy.translation_share, policy.translation_share)))
    if policy.trivial_augment == "wide":
        steps.append(v2.TrivialAugmentWide())
    if policy.erasing:
        steps.append(v2.RandomErasing(policy.erasing, SCALE, RATIO, value=fill_colour(preprocessing.mean)))
    return steps or [v2.Identity()]
