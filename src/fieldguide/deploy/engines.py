"""Engines turn inputs into logits; all must agree with the plain one."""

import abc
import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fieldguide import world
from fieldguide.deploy.forked import settle_after_fork
from fieldguide.deploy.names import BATCH_SIZE
from fieldguide.errors import UsageError
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier

Logits = npt.NDArray[np.float32]
SMALLER_BATCHES = (8, 1)
WORTH_FILLING = 0.8  # of a batch; less is faster in smaller ones, which are up to a quarter slower per photo


class Engine(abc.ABC):
    """The interface of all engines; `batch_size` suits it best, but it takes any number of images."""

    batch_size: int = BATCH_SIZE
    remarks: Sequence[str] = ()

    @abc.abstractmethod
    def compute(self, images: torch.Tensor) -> Logits:
        """(batch, 3, height, width) float32 to (batch, num_classes) logits."""

    def expect(self, photos: int | None) -> None:  # noqa: B027
        """Before the first photo is read: how many will come; None: unknown, which counts as few."""

    def may_leave_plain(self, first_batch: int) -> bool:
        """Whether another engine than plain may compute any of the expected photos."""
        return False

    @property
    def chosen(self) -> str:
        """The name of the engine that computes, from the first photos on; empty before, or without a choice."""
        return ""

    def settle(self, name: str) -> None:  # noqa: B027
        """Lets `auto` choose what it chose before, without measuring."""

    def ready_for_few(self) -> None:  # noqa: B027
        """Keeps what `auto` chose, and prepares for batches of any size; this takes some seconds."""

    def sentence(self) -> str:
        """Which engines computed so far, such as `openvino in bf16`; empty if it keeps no count."""
        return ""


@final
class Plain(Engine):
    """A network as it was trained, in fp32."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network, self._device = network.to(device).eval(), device

    def expect(self, photos: int | None) -> None:
        """See `Engine`."""
        settle_after_fork(self._device)

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`; of a backbone, features instead of logits."""
        with torch.inference_mode():
            answers: Logits = self._network(images.to(self._device)).float().cpu().numpy()
            return answers


@final
class Mirrored(Engine):
    """The mean over each image and its mirror image, computed one after the other to take no more memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def expect(self, photos: int | None) -> None:
        """See `Engine`."""
        self._engine.expect(photos)

    def ready_for_few(self) -> None:
        """See `Engine`."""
        self._engine.ready_for_few()

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        first = np.array(self._engine.compute(images))  # a copy, since an engine may reuse its memory
        return np.asarray((first + self._engine.compute(images.flip(-1))) / 2, dtype=np.float32)


@final
class Folded(Engine):
    """The network with batch normalisation folded into convolutions, channels last, in the device's fastest precision.

    Takes batches of any size.
    """

    def __init__(self, classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> None:
        self.batch_size, self._device = batch_size, device
        self._network = FoldedNetwork(classifier, precision(device), image_size_px).to(device)

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        with torch.inference_mode():
            logits: Logits = self._network(images.to(self._device)).cpu().numpy()
            return logits


def precision(device: torch.device) -> torch.dtype:
    """The precision of engines other than plain: what the device multiplies fastest."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[world.fastest_precision(device)]


class FoldedNetwork(nn.Module):
    """A copy of a classifier for engines: folded, channels last, the backbone in `dtype`; the head stays in fp32."""

    def __init__(self, classifier: Classifier, dtype: torch.dtype, image_size_px: int) -> None:
        super().__init__()
        own = copy.deepcopy(classifier).eval()
        with contextlib.suppress(UsageError):  # a backbone that cannot be folded is slower, but as right
            set_batch_norm(own, "folded", image_size_px)
        own.eval().backbone.to(dtype=dtype).to(memory_format=torch.channels_last)
        self.classifier = own
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) float32 to (batch, num_classes) float32 logits."""
        images = images.to(self.dtype, memory_format=torch.channels_last)
        logits: torch.Tensor = self.classifier.head(self.classifier.features(images).float())
        return logits


@final
class InPieces(Engine):
    """Any number of images through an engine that takes exactly `batch_size`, and later through smaller ones too.

    The last piece is filled with zeros, whose answers are dropped: an engine that is compiled for one shape would be
    compiled again for another.
    """

    def __init__(self, engine: Engine, smaller: Callable[[int], Engine] | None = None) -> None:
        """Begins with one; `smaller` makes one for another batch size."""
        self._engines, self.batch_size = [engine], engine.batch_size
        self._smaller = smaller

    def ready_for_few(self) -> None:
        """See `Engine`."""
        if self._smaller is not None and len(self._engines) == 1:
            self._engines += [self._smaller(size) for size in SMALLER_BATCHES if size < self.batch_size]

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        answers, start = [], 0
        while start < len(images):
            engine = self._engine_for(len(images) - start)
            piece = images[start : start + engine.batch_size]  # (up to its batch_size, 3, height, width)
            missing = engine.batch_size - len(piece)
            full = torch.cat([piece, piece.new_zeros(missing, *piece.shape[1:])]) if missing else piece
            # a copy, since an engine may reuse its memory
            answers.append(np.array(engine.compute(full)[: len(piece)]))
            start += len(piece)
        return np.concatenate(answers)

    def _engine_for(self, left: int) -> Engine:
        """The largest that so many images fill, or nearly."""
        filled = (engine for engine in self._engines if left >= WORTH_FILLING * engine.batch_size)
        return next(filled, self._engines[-1])
