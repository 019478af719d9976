"""What turns inputs into logits; engines can be exchanged, their answers must agree with the plain one."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.model.classifier import Classifier

Engine = Callable[[torch.Tensor], npt.NDArray[np.float32]]


def plain(classifier: Classifier, device: torch.device) -> Engine:
    """The network as it was trained, in fp32.

    Returns:
        A function from (batch, 3, height, width) float32 to (batch, num_classes) logits.
    """
    classifier = classifier.to(device).eval()

    def run(images: torch.Tensor) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = classifier(images.to(device)).float().cpu().numpy()
            return logits

    return run
