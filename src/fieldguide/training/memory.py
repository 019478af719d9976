"""How many photos fit through a network at once: what a step keeps for its backward pass, against what there is."""

import contextlib
from collections.abc import Callable

import torch
from torch import nn

PROBE = 2  # photos that are sent through to find out
OVERHEAD = 1.6  # gradients of what was kept, the convolutions' workspace, fragments: measured peak over kept bytes
SHARE = 0.75  # of the free memory that a training takes


def kept_bytes_per_image(
    model: nn.Module, image_size_px: int, precision: Callable[[], contextlib.AbstractContextManager[object]]
) -> float:
    """What a forward pass keeps for the backward pass, a photo, in bytes; weights are not counted.

    Args:
        model: on its device; its statistics and torch's random numbers are left as they were.
        image_size_px: of its input.
        precision: the context of the training's forward pass.
    """
    parameters = list(model.parameters())
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(PROBE, 3, image_size_px, image_size_px, device=parameters[0].device)
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()  # batch normalisation keeps its input in either mode, and its statistics stay here
    with precision(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(images.contiguous(memory_format=torch.channels_last))
    del logits
    for layer, mode in modes.items():
        layer.training = mode
    return sum(kept.values()) / PROBE


def fitting(batch_size: int, bytes_per_image: float, available: int | None) -> int:
    """The most photos at once that fit, as the batch or a half, a quarter, ... of it, and 2 at the least.

    Args:
        batch_size: of a step.
        bytes_per_image: of `kept_bytes_per_image`.
        available: free bytes; None: unknown, so the whole batch.
    """
    fits = batch_size if available is None else int(SHARE * available / (OVERHEAD * bytes_per_image))
    size = batch_size
    while size > max(2, fits):
        size = -(-size // 2)
    return size
