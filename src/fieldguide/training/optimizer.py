"""Optimisers over the parameters that learn, each of them asserted to be there."""

from collections.abc import Callable

import torch
from torch import nn

MakeOptimizer = Callable[[nn.Module, float], torch.optim.Optimizer]


def make_optimizer(
    model: nn.Module, learning_rate: float, *, kind: str, momentum: float, weight_decay: float, fused: bool = False
) -> torch.optim.Optimizer:
    """Builds an optimiser over every parameter of `model` that requires a gradient.

    Args:
        model: its parameters.
        learning_rate: at the start.
        kind: `adam` (Kingma and Ba 2015), `adamw` (Loshchilov and Hutter 2019) or `sgd`.
        momentum: of sgd.
        weight_decay: of all three; adam adds it to the gradient, adamw takes it off the weights.
        fused: one kernel over all parameters: the same update, its rounding aside.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer
    if kind == "sgd":
        optimizer = torch.optim.SGD(
            learning, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=fused
        )
    elif kind == "adamw":
        optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    else:
        assert kind == "adam", kind
        optimizer = torch.optim.Adam(learning, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    assert_complete(model, optimizer)
    return optimizer


def assert_complete(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Asserts that the optimiser holds each parameter that requires a gradient, once, and no other."""
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    learning = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert learning, "nothing is trainable"
    assert len(held) == len(set(held)) and set(held) == learning, "the optimiser misses parameters"
