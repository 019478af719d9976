"""A backbone and a head as one network, and which of its parameters learn."""

import functools

import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.backbone import make_backbone
from fieldguide.model.features import Backbone
from fieldguide.model.heads import make_head

LAST_STAGES = {"last_stage": 1, "last_two_stages": 2}


class Classifier(nn.Module):
    """Images to logits: `head(features(images))`; `interface` answers what is asked of the backbone besides.

    `takes` is one of `FEATURES`: `last`, the backbone's pooled features; `stages`, those of several stages joined;
    `stages_max`, with the largest value of each channel besides the mean.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, takes: str = "last") -> None:
        super().__init__()
        self.interface = backbone
        self.backbone = backbone.network
        self.head = head
        self.takes = takes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float, normalised, to (batch, num_classes) logits."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float, normalised, to what the head takes: (batch, features)."""
        if self.takes != "last":
            maps = self.interface.stage_maps(images)
            return self.interface.joined(maps, with_maxima=self.takes == "stages_max")
        found: torch.Tensor = self.backbone(images)
        return found

    @property
    def num_features(self) -> int:
        """How many features the head takes."""
        return _width(self.interface, self.takes)


class UpToHead(nn.Module):
    """A classifier without its head: images to the features that the head takes."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float, normalised, to (batch, features)."""
        return self.classifier.features(images)


def make_classifier(architecture: Architecture) -> Classifier:
    """Builds the network with random weights, drawn from torch's generator.

    Raises:
        UsageError: there is no such backbone, or its stages cannot be joined.
    """
    backbone = make_backbone(architecture.backbone, architecture.image_size_px)
    if architecture.features != "last" and not backbone.stage_widths:
        raise UsageError(
            f"model.features: {architecture.backbone} has no feature maps of several sizes to join; use last or auto"
        )
    head = make_head(
        architecture.head,
        _width(backbone, architecture.features),
        architecture.num_classes,
        architecture.head_width,
        architecture.head_dropout,
    )
    return Classifier(backbone, head, architecture.features)


def _width(backbone: Backbone, takes: str) -> int:
    return backbone.num_features if takes == "last" else backbone.joined_width(with_maxima=takes == "stages_max")


@functools.cache
def can_join_stages(backbone: str) -> bool:
    """Whether this backbone exists and has stages whose features can be joined, tried on an image without content."""
    try:
        with torch.device("meta"):
            made = make_backbone(backbone)
            side = made.preprocessing["image_size_px"]
            made.network.eval()
            if not made.stage_widths:
                return False
            joined = made.joined(made.stage_maps(torch.empty(2, 3, side, side)), with_maxima=True)
            return joined.shape == (2, made.joined_width(with_maxima=True))
    except Exception:  # each network complains in its own way; then its last features are what a head takes
        return False


def make_on_meta(architecture: Architecture) -> Classifier:
    """The same network without memory for its weights, for counting and showing."""
    with torch.device("meta"):
        return make_classifier(architecture)


def demand_image_size(
    classifier: Classifier, image_size_px: int, backbone: str, field: str = "data.image_size_px"
) -> None:
    """Sends an image without content through a network on the meta device.

    `backbone` and `field` (which asks for that size) are for the message of the UsageError, raised if the network does
    not take images of that size, or gives no pooled features.
    """
    try:
        features = classifier.eval().features(torch.empty(2, 3, image_size_px, image_size_px, device="meta"))
        shape = tuple(features.shape)
    except Exception as error:  # each network complains in its own way
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        near = " or ".join(str(size) for size in classifier.interface.sizes_near(image_size_px))
        raise UsageError(
            f"{field}: {backbone} does not take {image_size_px} x {image_size_px} images ({reason}); try {near}"
        ) from None
    if shape != (2, classifier.num_features):
        raise UsageError(f"model.backbone: {backbone} has no pooled features; its output is {shape[1:]}; use another")


def count_parameters(classifier: Classifier) -> dict[str, int]:
    """Exact counts: `total`, `backbone`, `head` (batch normalisation's statistics are no parameters)."""
    backbone = sum(parameter.numel() for parameter in classifier.backbone.parameters())
    head = sum(parameter.numel() for parameter in classifier.head.parameters())
    return {"total": backbone + head, "backbone": backbone, "head": head}


def set_trainable(classifier: Classifier, part: str) -> None:
    """Lets a part learn and freezes the rest: `all`, `head`, `last_stage` or `last_two_stages` (each with the head).

    Raises:
        UsageError: the backbone's stages are not known.
    """
    learning = set(trainable_names(classifier, part))
    for name, parameter in classifier.named_parameters():
        parameter.requires_grad_(name in learning)


def trainable_names(classifier: Classifier, part: str) -> list[str]:
    """Names of the parameters that learn when `part` is trainable."""
    names = [name for name, _ in classifier.named_parameters()]
    if part == "all":
        return names
    learning = {name for name in names if name.startswith("head.")}
    if part != "head":
        learning |= {name for stage in stage_names(classifier)[-LAST_STAGES[part] :] for name in stage}
    return [name for name in names if name in learning]


def stage_names(classifier: Classifier) -> list[list[str]]:
    """Names of the backbone's parameters from the stem to the last stage.

    Raises:
        UsageError: the backbone's stages are not known.
    """
    return [[f"backbone.{name}" for name in stage] for stage in classifier.interface.stages()]


def describe_head(classifier: Classifier, num_features: int) -> list[tuple[str, str, int]]:
    """The head's layers: what it is, its output's shape, its parameters."""
    rows, width = [], num_features
    for layer in classifier.head.children():
        name = type(layer).__name__
        if isinstance(layer, nn.Linear):
            width = layer.out_features
            name = f"linear {layer.in_features:,} to {width:,}"
        elif isinstance(layer, nn.Dropout):
            name = f"dropout {layer.p:g}"
        elif isinstance(layer, nn.BatchNorm1d):
            name = "batch normalisation"
        rows.append((name, f"(batch, {width:,})", sum(parameter.numel() for parameter in layer.parameters())))
    return rows
