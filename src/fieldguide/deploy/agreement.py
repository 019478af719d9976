"""How far an engine's answers are from the plain ones."""

from typing import Any

import numpy as np
import torch

from fieldguide.deploy.engines import Logits


def filled(images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Images repeated to fill a batch, for timing an engine that always computes a whole batch."""
    if len(images) >= batch_size:
        return images
    return images.repeat(-(-batch_size // len(images)), 1, 1, 1)[:batch_size]


def relative_difference(logits: Any, expected: Logits) -> float:
    """The largest difference of any photo's logits, as a share of the range of its expected logits.

    A number that is added to all logits of a photo changes no probability, so it counts for nothing.

    Returns:
        NaN or infinity if the logits are not finite, or have another shape.
    """
    if np.shape(logits) != expected.shape:
        return float("inf")
    spread = np.maximum(np.ptp(expected, axis=1), 1e-6)  # (batch,)
    apart = np.asarray(logits) - expected
    return float((np.abs(apart - np.median(apart, axis=1, keepdims=True)).max(axis=1) / spread).max())
