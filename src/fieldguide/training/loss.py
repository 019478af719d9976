"""What a step minimises. To add a loss, write a function and add a line to `LOSSES`."""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from fieldguide.training.mixing import Mix

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """The mean cross-entropy in nats of (batch, classes) logits, with label smoothing.

    Szegedy et al. 2016, arXiv 1512.00567, section 7: that share of the target, in [0, 1), is spread over all classes.
    """
    return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


LOSSES: Mapping[str, Loss] = {"cross_entropy": cross_entropy}


def loss_of(
    logits: torch.Tensor,
    labels: torch.Tensor,
    partners: torch.Tensor,
    *,
    name: str,
    label_smoothing: float,
    logit_adjustment: torch.Tensor | None = None,
    mix: Mix | None = None,
) -> torch.Tensor:
    """The mean loss of a batch, in float32.

    Args:
        labels, partners: (batch,) int64, the photos' classes and those of the photos they are mixed with.
        name: of `LOSSES`.
        logit_adjustment: (classes,) float32, added to the logits here and nowhere else (Menon et al. 2021, arXiv
            2007.07314, section 4.2), so that rare classes weigh as much.
        mix: how the photos are mixed; the loss is then against both classes, by their shares.
    """
    scores = logits.float()
    if logit_adjustment is not None:
        scores = scores + logit_adjustment
    own = LOSSES[name](scores, labels, label_smoothing)
    if mix is None:
        return own
    return mix.share * own + (1 - mix.share) * LOSSES[name](scores, partners, label_smoothing)
