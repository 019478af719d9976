"""The network compiled by torch's inductor, its weights frozen into the code."""

from typing import final

import torch

from fieldguide import world
from fieldguide.deploy.engines import Engine, FoldedNetwork, InPieces, Logits, precision
from fieldguide.model.classifier import Classifier


def problem_with_compiling(device: torch.device) -> str | None:
    """Why torch cannot compile here, as a sentence; None if it can."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "torch needs Triton to compile for a GPU, and it is not installed"
    if device.type != "cpu":
        return f"compiling for {device.type} is not tested"
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError, OSError):
        return "torch needs a C++ compiler, and there is none: install g++ or clang"
    return None


@final
class Compiled(Engine):
    """The network through `torch.compile` with inductor's freezing, for batches of exactly `batch_size`.

    In what the machine multiplies fastest. The first call compiles, which takes from some
    seconds to a minute.
    """

    def __init__(self, classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> None:
        self.batch_size, self._device = batch_size, device
        world.hush_compiler()
        network = FoldedNetwork(classifier, precision(device), image_size_px).to(device).eval()
        self._network = torch.compile(network, dynamic=False)

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        from torch._inductor import config

        with torch.inference_mode(), config.patch(freezing=True):
            logits: Logits = self._network(images.to(self._device)).cpu().numpy()
            return logits


def compiled(classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> Engine:
    """`Compiled`, for any number of images."""
    return InPieces(Compiled(classifier, device, batch_size, image_size_px))
