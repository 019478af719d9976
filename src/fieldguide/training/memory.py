"""How many photos go through a network at once.

On a GPU a step is measured. On a CPU memory that runs out ends the process, so there it is estimated: what a forward
pass keeps for the backward pass, against free memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fieldguide.training.step import FEWEST, Precision
from fieldguide.world import is_out_of_memory

PROBES = (2, 4)  # photos in two test passes; the difference leaves out what does not grow, such as cast weights
OVERHEAD = 1.6  # gradients, workspace, fragments: 1.2 to 1.4 for ResNets (benchmarks/kept.py), with a margin
SHARE = 0.75  # of the free memory that a training takes, where it is estimated
FILLED = 0.95  # of the free memory, where it is measured; the rest is for fragments


def kept_bytes_per_image(model: nn.Module, image_size_px: int, precision: Precision) -> float:
    """Bytes per photo that a forward pass in this precision keeps for the backward pass; the model stays unchanged."""
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()  # batch normalisation keeps its input in both modes; in this one its statistics stay unchanged
    few, more = (_kept_bytes(model, count, image_size_px, precision) for count in PROBES)
    for layer, mode in modes.items():
        layer.training = mode
    return (more - few) / (PROBES[1] - PROBES[0])


def _kept_bytes(model: nn.Module, photos: int, image_size_px: int, precision: Precision) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.zeros(photos, 3, image_size_px, image_size_px, device=next(model.parameters()).device)
    with precision(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(images.contiguous(memory_format=torch.channels_last))
    del logits
    return sum(kept.values())


def fitting(batch_size: int, bytes_per_image: float, available: int | None) -> int:
    """The most photos that fit at once in the free bytes (None: unknown): the batch, a half, a quarter; at least 2."""
    fits = batch_size if available is None else int(SHARE * available / (OVERHEAD * bytes_per_image))
    size = batch_size
    while size > max(2, fits):
        size = -(-size // 2)
    return size


@dataclass(frozen=True)
class Meter:
    """Memory of a device while something runs on it."""

    free: Callable[[], int]  # bytes that this process can take now
    restart: Callable[[], None]  # measures from here on
    peak: Callable[[], int]  # the most bytes taken since then, beyond those at that moment


@dataclass(frozen=True)
class Fit:
    """What a measured step takes."""

    photos: int  # at once
    bytes: int  # beside the network's own


def measured_fit(most: int, step: Callable[[int], int], meter: Meter) -> Fit:
    """The most photos at once with which a step fits into the device: `most`, a half, a quarter; at least 2.

    Args:
        step: takes one with at most so many photos at once, and returns how many it came down to where memory ran out.

    Raises what `step` raises, but for a lack of memory: then the training itself says it.
    """
    size = most
    while True:
        free = meter.free()
        meter.restart()
        try:
            reached = step(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return Fit(FEWEST, free)
        if reached < size:  # the peak is of the pieces that did not fit
            size = reached
        elif (taken := meter.peak()) <= FILLED * free or size <= FEWEST:
            return Fit(size, taken)
        else:
            size = max(FEWEST, -(-size // 2))
