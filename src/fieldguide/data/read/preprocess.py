"""An RGB photo to the network's input, without chance: the same for validation, evaluation and prediction."""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fieldguide.data.read.reading import Reading
from fieldguide.errors import UsageError

if TYPE_CHECKING:
    import torch

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MOST_RESIZED_PIXELS = 32_000_000
Flips = Literal["none", "horizontal"]
AS_IT_IS = Reading()


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a photo before the network sees it; plain data that a bundle stores.

    Attributes:
        image_size_px: side of the square input.
        resize_px: the shorter side is resized to this, with antialias, before the centre is cut out.
        interpolation: `bilinear` or `bicubic`.
        mean, std: a channel, of values in [0, 1].
        flips: `horizontal`: logits are the mean over the input and its mirror image.
        reading: how a file becomes the RGB photo that is resized; its bound on pixels is the bundle's own.
    """

    image_size_px: int
    resize_px: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flips: Flips = "none"
    reading: Reading = AS_IT_IS

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        plain = asdict(self) | {"mean": list(self.mean), "std": list(self.std)} | self.reading.to_dict()
        del plain["reading"]
        return plain

    def of_size(self, image_size_px: int) -> "Preprocessing":
        """The same for images of another side: the centre crop keeps its share."""
        resize_px = round(image_size_px * self.resize_px / self.image_size_px)
        return replace(self, image_size_px=image_size_px, resize_px=resize_px)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """From plain data; what earlier versions did not write has its default.

        Raises UsageError if a field is missing, unknown or out of its limits.
        """
        try:
            made = cls(
                image_size_px=_whole(data["image_size_px"]),
                resize_px=_whole(data["resize_px"]),
                interpolation=str(data["interpolation"]),
                mean=_three(data["mean"]),
                std=_three(data["std"]),
                flips=_flips(data.get("flips", "none")),
                reading=Reading.from_dict(data),
            )
        except UsageError:  # a ValueError, with its own words
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"preprocessing: {error} is missing or not a number") from None
        if made.interpolation not in RESAMPLING:
            raise UsageError(f"preprocessing: interpolation must be bilinear or bicubic, not {made.interpolation}")
        if not 1 <= made.image_size_px <= made.resize_px <= 8_192:
            raise UsageError(
                f"preprocessing: image_size_px {made.image_size_px} and resize_px {made.resize_px} "
                "must be 1 to 8192, and the first at most the second"
            )
        if min(made.std) <= 0 or not np.isfinite([*made.mean, *made.std]).all():
            raise UsageError("preprocessing: std must be above 0, and mean and std finite")
        return made


def resized_side(image_size_px: int, crop_share: float) -> int:
    """The shorter side before the centre crop: `round(image_size_px / crop_share)`."""
    return round(image_size_px / crop_share)


def center(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resizes the shorter side of an RGB photo and cuts out the centre, as torchvision's Resize and CenterCrop do."""
    short, crop = preprocessing.resize_px, preprocessing.image_size_px
    resampling = RESAMPLING[preprocessing.interpolation]
    width, height = image.size
    if width <= height:
        new_width, new_height = short, int(short * height / width)
    else:
        new_width, new_height = int(short * width / height), short
    left, top = round((new_width - crop) / 2), round((new_height - crop) / 2)
    if new_width * new_height > MOST_RESIZED_PIXELS:
        # A sliver of a photo: only its centre is resized, which is the same but for rounding.
        across, down = width / new_width, height / new_height
        box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
        return image.resize((crop, crop), resampling, box=box)
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), resampling)
    return image.crop((left, top, left + crop, top + crop))


def center_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """What `center` cuts out: left, top, width and height in pixels of a photo of that size."""
    short, crop = preprocessing.resize_px, preprocessing.image_size_px
    new_width = short if width <= height else int(short * width / height)
    new_height = int(short * height / width) if width <= height else short
    left, top = round((new_width - crop) / 2), round((new_height - crop) / 2)
    across, down = width / new_width, height / new_height
    return left * across, top * down, crop * across, crop * down


def pixels(image: Image.Image) -> "torch.Tensor":
    """An RGB photo as (3, height, width) uint8."""
    import torch  # which an export does without

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalize(images: "torch.Tensor", preprocessing: Preprocessing) -> "torch.Tensor":
    """(batch, 3, height, width) uint8 to float32: `(value / 255 - mean) / std`, on the images' device."""
    mean, std = _constants(preprocessing, images.device)
    return images.float().div_(255).sub_(mean).div_(std)


@functools.lru_cache(maxsize=16)
def _constants(preprocessing: Preprocessing, device: "torch.device") -> "tuple[torch.Tensor, torch.Tensor]":
    """Made once, since a GPU waits when they are copied to it."""
    import torch

    mean, std = (torch.tensor(values, device=device) for values in (preprocessing.mean, preprocessing.std))
    return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(repr(value))
    return int(value)


def _flips(value: Any) -> Flips:
    if value not in ("none", "horizontal"):
        raise UsageError(f"preprocessing: flips must be none or horizontal, not {str(value)[:40]}")
    return "horizontal" if value == "horizontal" else "none"


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
