"""The network compiled by torch's inductor, its weights frozen into the code."""

import torch

from fieldguide.deploy.engines import Engine, Folded, Logits, in_pieces, precision
from fieldguide.model.classifier import Classifier


def problem_with_compiling(device: torch.device) -> str | None:
    """Why torch cannot compile here, as a sentence; None if it can."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "torch compiles for a GPU by Triton, which is not installed"
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError, OSError):
        return "torch compiles by a C++ compiler, and there is none: install g++ or clang"
    return None


def compiled(classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> Engine:
    """The network through `torch.compile` with inductor's freezing, for batches of one size.

    In bf16 where the machine multiplies it natively, else in fp32. The first call compiles, which takes from some
    seconds to a minute.

    Returns:
        As `engines.plain`.
    """
    from torch._inductor import config

    network = torch.compile(Folded(classifier, precision(device), image_size_px).to(device).eval(), dynamic=False)

    def run(images: torch.Tensor) -> Logits:
        with torch.inference_mode(), config.patch(freezing=True):
            logits: Logits = network(images.to(device)).cpu().numpy()
            return logits

    return in_pieces(run, batch_size)
