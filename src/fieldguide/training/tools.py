"""What the training loop works with: batches, evaluation, optimiser, schedule, probe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from fieldguide.training.mixing import Mix
from fieldguide.training.optimizer import MakeOptimizer
from fieldguide.training.plan import Stage
from fieldguide.training.schedule import MakeSchedule
from fieldguide.training.state import Scores
from fieldguide.training.step import StepSettings

Goes = Literal["on", "enough", "stop"]  # for a probe: continue, fit with the photos so far, or stop
HowToGoOn = Callable[[int, bool], Goes]  # (photos done, whether more follow)


class TrainingBatch(Protocol):
    """A batch on its device."""

    @property
    def images(self) -> torch.Tensor:
        """(batch, 3, height, width) float32, normalised."""

    @property
    def labels(self) -> torch.Tensor:
        """(batch,) int64."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the photos, for messages."""


@dataclass(frozen=True)
class Tools:
    """All that the loop knows of the outside.

    Attributes:
        batches: (stage, epoch, first step) to that epoch's batches from that step on.
        steps_per_epoch: how many there are.
        evaluate: a network to its validation figures.
        make_optimizer: (network, rate) to an optimiser.
        make_schedule: (optimiser, stage, steps an epoch) to a schedule.
        prepare: prepares the network for a stage: trainable parts, batch normalisation.
        weights: a CPU copy of a network's weights as it is built, even if a stage folded it.
        load: puts such weights into a network.
        step: loss, clipping, precision.
        seed_step: called with (epoch, step) before each step; dropout depends on it alone.
        probe: (network, stage, epoch, called after each batch to ask how to go on) fits the head and gives its figures
            on the training photos; None if told to stop.
        draw_mix: (epoch, step, height, width of its images) to how its photos are mixed; None: not mixed.
    """

    batches: Callable[[Stage, int, int], Iterator[TrainingBatch]]
    steps_per_epoch: int
    evaluate: Callable[[nn.Module], Scores]
    make_optimizer: MakeOptimizer
    make_schedule: MakeSchedule
    prepare: Callable[[nn.Module, Stage], None]
    weights: Callable[[nn.Module], dict[str, torch.Tensor]]
    load: Callable[[nn.Module, dict[str, torch.Tensor]], None]
    step: StepSettings
    seed_step: Callable[[int, int], None]
    probe: Callable[[nn.Module, Stage, int, HowToGoOn], Scores | None] = lambda *_: None
    draw_mix: Callable[[int, int, int, int], Mix | None] = lambda *_: None
