"""What turns inputs into logits; engines can be exchanged, their answers must agree with the plain one."""

import contextlib
import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fieldguide import world
from fieldguide.errors import UsageError
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier

Logits = npt.NDArray[np.float32]
Engine = Callable[[torch.Tensor], Logits]


def plain(classifier: Classifier, device: torch.device) -> Engine:
    """The network as it was trained, in fp32.

    Returns:
        A function from (batch, 3, height, width) float32 to (batch, num_classes) logits.
    """
    classifier = classifier.to(device).eval()

    def run(images: torch.Tensor) -> Logits:
        with torch.inference_mode():
            logits: Logits = classifier(images.to(device)).float().cpu().numpy()
            return logits

    return run


def mirrored(run: Engine) -> Engine:
    """An engine whose logits are the mean over each image and its mirror image, made of one for single images.

    One after the other, so that it takes no more memory than a single one.
    """

    def run_both(images: torch.Tensor) -> Logits:
        first = np.array(run(images))  # a copy, for an engine may use its memory again
        return np.asarray((first + run(images.flip(-1))) / 2, dtype=np.float32)

    return run_both


def folded(classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> Engine:
    """The network with its batch normalisation in the convolutions, channels last, in the device's fastest precision.

    Takes batches of any size.

    Returns:
        As `plain`.
    """
    network = Folded(classifier, precision(device), image_size_px).to(device)

    def run(images: torch.Tensor) -> Logits:
        with torch.inference_mode():
            logits: Logits = network(images.to(device)).cpu().numpy()
            return logits

    return run


def precision(device: torch.device) -> torch.dtype:
    """What engines other than the plain one compute in: bf16 where the device multiplies it natively, else fp32."""
    return torch.bfloat16 if world.multiplies_bfloat16(device) else torch.float32


class Folded(nn.Module):
    """A copy of a classifier for engines: folded, channels last, the backbone in `dtype`; the head stays in fp32."""

    def __init__(self, classifier: Classifier, dtype: torch.dtype, image_size_px: int) -> None:
        super().__init__()
        own = copy.deepcopy(classifier).eval()
        with contextlib.suppress(UsageError):  # a backbone that cannot be folded is slower, and just as right
            set_batch_norm(own, "folded", image_size_px)
        self.backbone = own.eval().backbone.to(dtype=dtype).to(memory_format=torch.channels_last)
        self.head = own.head
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float32 to (batch, num_classes) float32 logits."""
        images = images.to(self.dtype, memory_format=torch.channels_last)
        logits: torch.Tensor = self.head(self.backbone(images).float())
        return logits


def in_pieces(run: Engine, batch_size: int) -> Engine:
    """An engine that takes any number of images, made of one that takes exactly `batch_size`.

    The last piece is filled up with zeros, whose answers are dropped: an engine that is compiled for one shape would
    be compiled anew for another.
    """

    def run_all(images: torch.Tensor) -> Logits:
        answers = []
        for start in range(0, len(images), batch_size):
            piece = images[start : start + batch_size]  # (up to batch_size, 3, height, width)
            missing = batch_size - len(piece)
            full = torch.cat([piece, piece.new_zeros(missing, *piece.shape[1:])]) if missing else piece
            answers.append(np.array(run(full)[: len(piece)]))  # a copy, for an engine may use its memory again
        return np.concatenate(answers)

    return run_all
