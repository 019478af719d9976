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
        """(batch, 3, height, width) float32, normalised; of several processes, the part of this one."""

    @property
    def labels(self) -> torch.Tensor:
        """(batch,) int64."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all photos of the step, for messages."""


Drawn = Iterator[TrainingBatch]
Batches = Callable[[Stage, int, int], Drawn]  # (stage, epoch, first step): its batches from there on
# (network, stage, epoch, asked after each batch): fits the head; its figures on the training photos, None if stopped
FitProbe = Callable[[nn.Module, Stage, int, HowToGoOn], Scores | None]


@dataclass(frozen=True)
class Tools:
    """All that the loop knows of the outside."""

    batches: Batches
    steps_per_epoch: int
    evaluate: Callable[[nn.Module], Scores]  # on the validation photos
    make_optimizer: MakeOptimizer
    make_schedule: MakeSchedule
    prepare: Callable[[nn.Module, Stage], None]  # for a stage: trainable parts, batch normalisation
    weights: Callable[[nn.Module], dict[str, torch.Tensor]]  # a CPU copy as it is built, even if a stage folded it
    load: Callable[[nn.Module, dict[str, torch.Tensor]], None]  # puts such weights into a network
    step: StepSettings
    seed_step: Callable[[int, int], None]  # before each (epoch, step); dropout depends on it alone
    probe: FitProbe = lambda *_: None
    draw_mix: Callable[[int, int, int, int], Mix | None] = lambda *_: None  # for (epoch, step, height, width)
