"""Gradient scaling for fp16: small gradients would be 0 there, and steps whose gradients overflow are skipped.

Micikevicius et al. 2018, "Mixed Precision Training", arXiv 1710.03740, section 3.2; by torch's `GradScaler`.
"""

from collections.abc import Callable, Mapping

import torch

from fieldguide.training.state import State


class GradientScaling:
    """The scale of the loss, which carries over from step to step, and how many steps were skipped."""

    def __init__(self, device: str) -> None:
        """`device` is a type, such as `cuda`."""
        self._scaler = torch.amp.GradScaler(device)
        self._skipped: torch.Tensor | None = None  # on the device, so that no step waits for it
        self._device = device
        self._told: torch.Tensor | None = None

    def backward(self, loss: torch.Tensor) -> None:
        """The gradients of the scaled loss are added to those that are there."""
        torch.autograd.backward(self._scaler.scale(loss) if self._told is None else loss * self._told[0])

    def scale(self) -> torch.Tensor:
        """(1,) the scale now, on the device."""
        return self._scaler.scale(torch.ones(1, device=self._device)) if self._told is None else self._told

    def follow(self) -> torch.Tensor:
        """(1,) whatever is written into it is the scale from now on: another process decides it."""
        self._told = torch.ones(1, device=self._device)
        return self._told

    def step(self, optimizer: torch.optim.Optimizer, clip: Callable[[], object] | None) -> None:
        """The optimiser's step without the scale, unless a gradient is not finite; then the scale is halved.

        `clip` is called with gradients that are no longer scaled.
        """
        if clip is not None:
            self._scaler.unscale_(optimizer)
            clip()
        one = torch.ones((), device=optimizer.param_groups[0]["params"][0].device)
        before = self._scaler.scale(one)
        self._scaler.step(optimizer)
        self._scaler.update()
        was_skipped = (self._scaler.scale(one) < before).long()
        self._skipped = was_skipped if self._skipped is None else self._skipped + was_skipped

    def take_skipped(self) -> int:
        """How many steps were skipped since the last call; waits for the device."""
        skipped, self._skipped = self._skipped, None
        return 0 if skipped is None else int(skipped)

    def memory(self) -> dict[str, float]:
        """The scale, and how many steps it has held."""
        state = self._scaler.state_dict()
        return {"scale": float(state["scale"]), "steps": int(state["_growth_tracker"])}

    def restore(self, memory: Mapping[str, float]) -> None:
        """Restores what `memory` gave."""
        state = self._scaler.state_dict()
        state |= {"scale": float(memory["scale"]), "_growth_tracker": int(memory["steps"])}
        self._scaler.load_state_dict(state)


def note_scaling(scaling: GradientScaling | None, state: State, epoch: int) -> int:
    """Writes the scale into the state; returns how many steps of the epoch were skipped since the last call."""
    if scaling is None:
        return 0
    state.scaling, skipped = scaling.memory(), scaling.take_skipped()
    if skipped and state.skipped and state.skipped[-1][0] == epoch:
        state.skipped[-1] = (epoch, state.skipped[-1][1] + skipped)
    elif skipped:
        state.skipped.append((epoch, skipped))
    return skipped
