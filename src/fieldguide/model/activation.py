"""Class-activation maps: which part of a photo spoke for a class.

Grad-CAM (Selvaraju et al. 2017, section 3) by captum. Of the two kept libraries, grad-cam brings OpenCV, ttach and
scikit-learn along for maps that are a weighted sum; captum is kept by torch's own people and needs nothing but torch,
NumPy and matplotlib.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from fieldguide.model.backbone import FeatureMap, feature_map
from fieldguide.model.classifier import Classifier

Maps = npt.NDArray[np.float32]


class _Parted(nn.Module):
    """The same classifier with its feature map as a layer of its own, whatever the backbone calls it."""

    def __init__(self, features: FeatureMap, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features.pooled(self.features(images)))
        return logits


def activation_maps(classifier: Classifier, images: torch.Tensor, classes: npt.NDArray[np.int64]) -> Maps | None:
    """Where the last feature map speaks for a class (Selvaraju et al. 2017, equations 1 and 2).

    The weight of a channel is the mean gradient of the class's logit over its cells; the map is the positive part of
    the weighted sum of the channels. For a linear head after mean pooling that is CAM (Zhou et al. 2016) itself, up to
    its scale.

    Args:
        classifier: in evaluation mode; its weights and their `requires_grad` are left as they are.
        images: (batch, 3, height, width) float32, normalised, on the classifier's device.
        classes: (batch,) index of the class that each map is for.

    Returns:
        (batch, height, width) float32 in [0, 1], the largest value of each map being 1; all 0 where nothing speaks for
        the class. None where the backbone has no spatial features.
    """
    features = feature_map(classifier.backbone, images.shape[-1])
    if features is None:
        return None
    from captum.attr import LayerGradCam  # half a second, and only a report wants it

    parted = _Parted(features, classifier.head).eval()
    target = torch.from_numpy(classes).to(images.device)
    with torch.enable_grad():
        maps = LayerGradCam(parted, parted.features).attribute(
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
