"""What the rest of the program asks of a network that turns images into features."""

import abc
from typing import Any

import torch
from torch import nn


class Backbone(abc.ABC):
    """A network from images to pooled features, and what is known about it.

    The network stays a plain module, so its weights keep the names that they were published under.

    Attributes:
        network: (batch, 3, height, width) float, normalised, to (batch, num_features), pooled as in pretraining.
        preprocessing: of its pretraining: image_size_px, crop_share, interpolation, mean, std.
        stage_widths: features of each of its last stages that can be joined, the last being `num_features`; empty if
            they cannot.
        map_widths: channels of the maps of those stages; that of the last one may differ from `num_features`.
        built_for_px: the only image size that it takes; None: it takes several.
    """

    network: nn.Module
    num_features: int
    preprocessing: dict[str, Any]
    stage_widths: tuple[int, ...] = ()
    map_widths: tuple[int, ...] = ()
    built_for_px: int | None = None

    def stage_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Each (batch, channels, rows, columns): those before the last feature map, then it, in one forward pass.

        Their channels are `map_widths`; the last map is as `feature_map` gives it.
        """
        raise NotImplementedError("this backbone has no stages to take features from")

    def joined(self, maps: list[torch.Tensor], *, with_maxima: bool) -> torch.Tensor:
        """The means of the earlier maps over their cells, then `pooled` of the last: (batch, `joined_width`).

        With maxima, the largest value of each channel of each map as well.
        """
        *earlier, last = maps
        parts = [*(each.mean(dim=(2, 3)) for each in earlier), self.pooled(last)]
        if with_maxima:
            parts += [each.amax(dim=(2, 3)) for each in maps]
        return torch.cat(parts, dim=1)

    def joined_width(self, *, with_maxima: bool) -> int:
        """How many features `joined` gives."""
        return sum(self.stage_widths) + with_maxima * sum(self.map_widths)

    @abc.abstractmethod
    def stages(self) -> list[list[str]]:
        """Parameter names from the stem to the last stage; a transformer's stages are its blocks.

        Raises:
            UsageError: nobody knows the stages of this network.
        """

    @abc.abstractmethod
    def sizes_near(self, image_size_px: int) -> tuple[int, ...]:
        """Image sizes next to this one that the network is likely to take, smallest first."""

    @abc.abstractmethod
    def cells(self, image_size_px: int) -> tuple[int, int] | None:
        """Rows and columns of the last feature map, in evaluation mode; None if the features are tokens."""

    @abc.abstractmethod
    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) to (batch, num_features, rows, columns); only where `cells` is not None."""

    @abc.abstractmethod
    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """What the network makes of its feature map: (batch, num_features)."""

    @abc.abstractmethod
    def after_norm(self, layer: nn.BatchNorm2d) -> nn.Module:
        """What a batch normalisation layer of this network does after it has normalised."""
