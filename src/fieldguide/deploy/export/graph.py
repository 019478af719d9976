"""The network of an export: photos as a decoder gives them to probabilities, with nothing left to do outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.export.resize import Resize
from fieldguide.model.classifier import Classifier

Input = Literal["photo", "resized"]
INPUTS: tuple[Input, ...] = ("photo", "resized")


@dataclass(frozen=True)
class Member:
    """A trained network with what its bundle says of it.

    Attributes:
        classes: in the order of its logits.
    """

    classifier: Classifier
    preprocessing: Preprocessing
    temperature: float
    classes: tuple[str, ...]


@final
class Normalized(nn.Module):
    """One member: resized photos to probabilities."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, member: Member, classes: Sequence[str]) -> None:
        super().__init__()
        own = member.preprocessing
        self.classifier, self.temperature = member.classifier.eval(), member.temperature
        self.is_mirrored = own.flips == "horizontal"
        self.register_buffer("mean", torch.tensor(own.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(own.std).view(1, 3, 1, 1))
        order = [member.classes.index(name) for name in classes]
        self.order = None if order == list(range(len(order))) else order

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float of 0 to 255 to (batch, num_classes) probabilities."""
        images = (pixels / 255 - self.mean) / self.std
        logits = self.classifier(images)
        if self.is_mirrored:
            logits = (logits + self.classifier(images.flip(-1))) / 2
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        return probabilities if self.order is None else probabilities[:, self.order]


@final
class Graph(nn.Module):
    """What a file of an export holds.

    Its input is (batch, height, width, 3) uint8 RGB: photos of any one size, or, if `takes` is `resized`, what
    `data.read.preprocess.center` gives. Its output is (batch, num_classes) float probabilities, the mean over the
    members (`deploy/ensemble.py`).
    """

    def __init__(self, members: Sequence[Member], takes: Input = "photo") -> None:
        super().__init__()
        assert takes == "photo" or len({member.preprocessing.image_size_px for member in members}) == 1
        self.classes = members[0].classes
        self.networks = nn.ModuleList(Normalized(member, self.classes) for member in members)
        resizes = [Resize(member.preprocessing) for member in members] if takes == "photo" else []
        self.resizes = nn.ModuleList(resizes)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, 3) uint8 to (batch, num_classes) float."""
        if self.resizes:
            pixels = [resize(photos) for resize in self.resizes]
        else:
            pixels = [photos.permute(0, 3, 1, 2).float()] * len(self.networks)
        answers = [network(each) for network, each in zip(self.networks, pixels, strict=True)]
        total: torch.Tensor = sum(answers[1:], answers[0])
        return total / len(answers)
