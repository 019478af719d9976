"""Class-activation maps: which part of a photo spoke for a class.

Grad-CAM (Selvaraju et al. 2017, section 3) by captum. Of the two kept libraries, grad-cam brings OpenCV, ttach and
scikit-learn along for maps that are a weighted sum; captum is kept by torch's own people and needs nothing but torch,
NumPy and matplotlib.
"""

import enum

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from fieldguide.model.classifier import Classifier

Maps = npt.NDArray[np.float32]


class NoMap(enum.Enum):
    """Why a network has no activation maps."""

    TOKENS = "its last features are tokens, as in most vision transformers"
    ONE_CELL = "its last feature map is 1 x 1 at this image size"


class _Parted(nn.Module):
    """The same classifier with its last feature map as a layer of its own, which captum can watch."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.interface = classifier.interface
        self.takes = classifier.takes
        self.last_map = nn.Identity()
        self.head = classifier.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.takes != "last":
            *earlier, last = self.interface.stage_maps(images)
            features = self.interface.joined([*earlier, self.last_map(last)], with_maxima=self.takes == "stages_max")
        else:
            features = self.interface.pooled(self.last_map(self.interface.feature_map(images)))
        logits: torch.Tensor = self.head(features)
        return logits


def why_no_map(classifier: Classifier, image_size_px: int) -> NoMap | None:
    """Why there are no maps at this image size; None if there are."""
    cells = classifier.interface.cells(image_size_px)
    if cells is None:
        return NoMap.TOKENS
    return NoMap.ONE_CELL if cells == (1, 1) else None


def activation_maps(classifier: Classifier, images: torch.Tensor, classes: npt.NDArray[np.int64]) -> Maps | None:
    """Where the last feature map speaks for a class (Selvaraju et al. 2017, equations 1 and 2).

    Where stages are joined, earlier maps have no part in it: they are too local to say where an object is.

    The weight of a channel is the mean gradient of the class's logit over its cells; the map is the positive part of
    the weighted sum of the channels. For a linear head after mean pooling that is CAM (Zhou et al. 2016) itself, up to
    its scale.

    Args:
        classifier: in evaluation mode; its weights and their `requires_grad` are left as they are.
        images: (batch, 3, height, width) float32, normalised, on the classifier's device.
        classes: (batch,) index of the class that each map is for.

    Returns:
        (batch, height, width) float32 in [0, 1], the largest value of each map being 1; all 0 where nothing speaks for
        the class. None where `why_no_map` says why.
    """
    if why_no_map(classifier, images.shape[-1]):
        return None
    from captum.attr import LayerGradCam  # half a second, and only a report wants it

    parted = _Parted(classifier).eval()
    target = torch.from_numpy(classes).to(images.device)
    with torch.enable_grad():
        maps = LayerGradCam(parted, parted.last_map).attribute(
            # a copy: captum turns gradients on for it
            images.detach().clone().requires_grad_(),
            target=target,
            relu_attributions=True,
        )
    maps = functional.interpolate(maps.detach().float(), images.shape[-2:], mode="bilinear", align_corners=False)
    return _to_one(maps[:, 0]).cpu().numpy()


def _to_one(maps: torch.Tensor) -> torch.Tensor:
    """(batch, height, width), each divided by its largest value; a map of zeros stays one."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest, torch.zeros_like(maps))
