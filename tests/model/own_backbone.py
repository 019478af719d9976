"""A second implementation of the backbone interface: any module, around which nothing is known."""

import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.model.features import Backbone


class OwnBackbone(Backbone):
    """Features by a module of a test's own."""

    def __init__(self, network: nn.Module, num_features: int = 3) -> None:
        self.network, self.num_features, self.preprocessing = network, num_features, {}

    def stages(self) -> list[list[str]]:
        raise UsageError("this backbone has no stages")

    def sizes_near(self, image_size_px: int) -> tuple[int, ...]:
        return (image_size_px,)

    def cells(self, image_size_px: int) -> tuple[int, int] | None:
        return None

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def after_norm(self, layer: nn.BatchNorm2d) -> nn.Module:
        return nn.Identity()
