"""One training by several processes: the first one leads, the others give it gradients and answers of their part.

All that decides or remembers is in the leader alone, as in a training by one process: plan, minutes, signals,
optimiser, schedule, moving average, scale, checkpoints. In each step the others have its weights, and after it, it
takes the sum of their gradients. So weights cannot drift apart, and a run resumes with any number of processes. Unlike
in torch's DistributedDataParallel, sums do not run beside the backward pass (docs/processes.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from fieldguide.errors import FieldguideError
from fieldguide.training.plan import Stage
from fieldguide.training.state import Scores
from fieldguide.training.step import gradients, training_mode
from fieldguide.training.tools import Drawn, Tools, TrainingBatch
from fieldguide.world import is_out_of_memory
from fieldguide.world.processes import FINE, NOT_FINE, Team


@dataclass(frozen=True)
class Prepare:
    """The others prepare a stage."""

    stage: Stage


@dataclass(frozen=True)
class Steps:
    """The others take part in the steps of an epoch."""

    stage: Stage
    epoch: int
    first_step: int


@dataclass(frozen=True)
class Evaluate:
    """The others judge their part of the validation photos."""

    as_built: bool  # whether the network is as it was built, without what a stage prepared


Order = Prepare | Steps | Evaluate | None  # None: the training is over


class Leader:
    """Tools that do each thing together with the others, who do it in `follow`."""

    def __init__(self, model: nn.Module, tools: Tools, team: Team) -> None:
        self._model, self._own, self._team = model, tools, team
        self._in_epoch = False  # whether the others are within one
        self._as_built = True
        self.tools = replace(
            tools, batches=self._batches, evaluate=self._evaluate, prepare=self._prepare, load=self._load
        )

    def end(self) -> None:
        """Lets the others go, unless one is lost."""
        if not self._team.is_lost:
            self._order(None)

    def _order(self, order: Order) -> None:
        if self._in_epoch:
            self._in_epoch = False
            self._team.agree(NOT_FINE)
        self._team.tell(order)
        if order is not None:
            self._team.share(_state(self._model))

    def _prepare(self, model: nn.Module, stage: Stage) -> None:
        self._order(Prepare(stage))
        self._own.prepare(model, stage)
        self._team.exchange.hold(_learning(model))
        self._as_built = False

    def _load(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        self._own.load(model, weights)
        self._as_built = True

    def _evaluate(self, model: nn.Module) -> Scores:
        self._order(Evaluate(self._as_built))
        return self._own.evaluate(model)

    def _batches(self, stage: Stage, epoch: int, first_step: int) -> Drawn:
        """A probe's are the leader's alone."""
        batches = self._own.batches(stage, epoch, first_step)
        return batches if stage.method == "probe" else self._steps(batches, Steps(stage, epoch, first_step))

    def _steps(self, batches: Drawn, order: Steps) -> Iterator[TrainingBatch]:
        self._order(order)
        self._in_epoch = True
        for batch in batches:
            codes = self._team.agree(FINE)
            if any(codes):
                self._in_epoch = False
                self._team.raise_problem(None)
            self._team.share(_for_a_step(self._model, self._own, self._team))
            yield batch


def follow(model: nn.Module, tools: Tools, team: Team) -> None:
    """Does what the leader orders, until the training is over; the model and the tools are made as the leader's."""
    if tools.step.scaling is not None:
        tools.step.scaling.follow()
    while (order := team.hear()) is not None:
        if isinstance(order, Prepare) or (isinstance(order, Evaluate) and order.as_built):
            tools.load(model, tools.weights(model))
        team.share(_state(model))
        if isinstance(order, Prepare):
            tools.prepare(model, order.stage)
            team.exchange.hold(_learning(model))
        elif isinstance(order, Evaluate):
            tools.evaluate(model)
        else:
            with team.exchange.holding():
                _follow_steps(model, tools, team, order)


def _follow_steps(model: nn.Module, tools: Tools, team: Team, order: Steps) -> None:
    """Gradients of this process's part of each batch, until the leader ends the epoch or a photo is gone."""
    training_mode(model)
    batches, step = tools.batches(order.stage, order.epoch, order.first_step), order.first_step
    while True:
        problem, batch = None, None
        try:
            batch = next(batches, None)
        except FieldguideError as error:
            problem = error
        codes = team.agree(FINE if problem is None else NOT_FINE)
        if codes[0] != FINE:
            return
        if any(codes):
            team.raise_problem(problem)
            return
        assert batch is not None, "the leader has more batches"
        team.share(_for_a_step(model, tools, team))
        tools.seed_step(order.epoch, step)
        mix = tools.draw_mix(order.epoch, step, *batch.images.shape[-2:])
        try:
            gradients(model, batch.images, batch.labels, tools.step, mix, len(batch.files))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):  # else even two photos are too many, and the leader ends the training
                raise
        step += 1


def _state(model: nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def _learning(model: nn.Module) -> list[torch.Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _for_a_step(model: nn.Module, tools: Tools, team: Team) -> list[torch.Tensor]:
    """What the leader's last step has changed, all need for the next, and is not in memory that all have."""
    scaling = tools.step.scaling
    return [*([] if team.exchange.holds else _learning(model)), *([] if scaling is None else [scaling.scale()])]
