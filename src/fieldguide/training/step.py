"""One training step, and the modes of a network of which parts are frozen."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class StepSettings:
    """What a step is made of besides the network.

    Attributes:
        label_smoothing: of the cross-entropy, in [0, 1).
        gradient_clip_norm: gradients are scaled down to this norm; None: not at all.
        precision: a context in which the forward pass runs (autocast, or nothing).
    """

    label_smoothing: float
    gradient_clip_norm: float | None
    precision: Callable[[], contextlib.AbstractContextManager[object]]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    settings: StepSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward, backward, update.

    Args:
        model: images to logits; changed in place.
        optimizer: over the parameters that learn.
        images: (batch, 3, height, width) float32, normalised.
        labels: (batch,) int64.
        settings: loss, clipping, precision.

    Returns:
        The mean loss and the count of right answers, as tensors on the device, so that nothing waits for them.
    """
    with settings.precision():
        logits = model(images)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if settings.gradient_clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip_norm)
    optimizer.step()
    correct = (logits.detach().argmax(dim=1) == labels).sum()
    return loss.detach(), correct


def training_mode(module: nn.Module) -> None:
    """Training mode, but evaluation mode for every part whose parameters are all frozen.

    So frozen parts keep their batch normalisation statistics and drop nothing.
    """
    module.train()
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            training_mode(child)
