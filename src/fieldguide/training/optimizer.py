"""Optimisers over the trainable parameters; each parameter must be in one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fieldguide.training.parameter_groups import Group, Rates, parameter_groups

MakeOptimizer = Callable[[nn.Module, float], torch.optim.Optimizer]
SHARE = "share"  # key in an optimiser's groups: the group's share of the stage's rate


def make_optimizer(
    model: nn.Module,
    learning_rate: float,
    *,
    kind: str,
    momentum: float,
    weight_decay: float,
    fused: bool | None = None,
    groups: Sequence[Group] | None = None,
) -> torch.optim.Optimizer:
    """Builds an optimiser over every parameter of `model` that requires a gradient; each group has its own rate.

    Args:
        kind: `adam` (Kingma and Ba 2015), `adamw` (Loshchilov and Hutter 2019) or `sgd`.
        weight_decay: of all three; adam adds it to the gradient, adamw subtracts it from the weights.
        fused: one kernel for all parameters; the same update except for rounding. None: torch's choice, which on a GPU
            updates many parameters at once (False turns that off, too).
        groups: from `parameter_groups`; None: one rate for all.
    """
    made: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "lr": learning_rate * group.share,
            "weight_decay": weight_decay if group.decays else 0.0,
            SHARE: group.share,
        }
        for group in (parameter_groups(model, (), Rates()) if groups is None else groups)
    ]
    optimizer: torch.optim.Optimizer
    if kind == "sgd":
        optimizer = torch.optim.SGD(made, lr=learning_rate, momentum=momentum, fused=fused)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](made, lr=learning_rate, fused=fused)
    assert_complete(model, optimizer)
    return optimizer


def assert_complete(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Asserts that the optimiser holds each trainable parameter exactly once, and no other."""
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    learning = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert learning, "nothing is trainable"
    assert len(held) == len(set(held)) and set(held) == learning, "the optimiser misses parameters"
