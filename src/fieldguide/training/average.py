"""The exponential moving average of a network's weights and of its batch normalisation's statistics."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """An exponential moving average over the steps of one stage (Polyak and Juditsky 1992, with older steps fading).

    After each step average = d * average + (1 - d) * weights. At step t, counted from 0, d is the smaller one of
    `decay` and (1 + t) / (10 + t), as in TensorFlow's `ExponentialMovingAverage` with `num_updates`: a short training
    would otherwise stay near its first weights.

    It covers every trainable floating-point parameter and every floating-point buffer, batch normalisation statistics
    included. Frozen parameters and counters stay the network's. It refers to the network's current tensors, so each
    stage needs its own average: the next one may fold batch normalisation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        assert 0 <= decay < 1, decay
        self.decay = decay
        self.steps = 0
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        moving = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        self._live = {name: value for name, value in moving.items() if name not in frozen}
        self.weights = {name: value.clone() for name, value in self._live.items()}

    def take_step(self) -> None:
        """Adds the network's weights, after an optimiser step. Nothing waits for the device."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.weights.values()), list(self._live.values()), 1 - decay)
        self.steps += 1

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Puts the average, from the first step on, into the network; on exit its own weights are back, bit for bit."""
        if not self.steps:
            yield
            return
        live = list(self._live.values())
        own = [value.clone() for value in live]
        torch._foreach_copy_(live, list(self.weights.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(live, own)

    def restore(self, weights: Mapping[str, torch.Tensor], steps: int) -> None:
        """Continues a saved average; raises ValueError if it belongs to another network or stage."""
        shapes = {name: value.shape for name, value in self.weights.items()}
        if shapes != {name: value.shape for name, value in weights.items()} or steps < 0:
            raise ValueError("the moving average belongs to other weights")
        for name, value in self.weights.items():
            value.copy_(weights[name])
        self.steps = steps
