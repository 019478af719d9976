"""The share of the learning rate and the weight decay of each parameter."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

HEAD = "head."


@dataclass(frozen=True)
class Rates:
    """How the rate differs between layers.

    Layer decay: Howard and Ruder 2018, arXiv 1801.06146, section 3.2; Clark et al. 2020, arXiv 2003.10555, appendix A.
    """

    layer_decay: float = 1.0  # each stage of the backbone learns at this times the rate of the one after it
    head_factor: float = 1.0  # the head learns at this times the rate of the backbone's last stage
    decays_all: bool = True  # whether weight decay includes biases and the scale and shift of normalisation


@dataclass(frozen=True)
class Group:
    """Parameters with one rate."""

    parameters: list[nn.Parameter]
    share: float  # of the stage's rate
    decays: bool  # whether weight decay applies


def parameter_groups(model: nn.Module, stages: Sequence[Sequence[str]], rates: Rates) -> list[Group]:
    """All trainable parameters, each in one group, by their share of the rate; the head's names start with `head.`.

    `stages` are names of the other parameters, from the stem to the last stage, whose rate a parameter in none gets.
    """
    depth = {name: len(stages) - 1 - place for place, stage in enumerate(stages) for name in stage}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = rates.head_factor if name.startswith(HEAD) else rates.layer_decay ** depth.get(name, 0)
        groups.setdefault((share, rates.decays_all or parameter.ndim > 1), []).append(parameter)
    return [Group(parameters, share, decays) for (share, decays), parameters in groups.items()]
