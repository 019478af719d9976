"""A plan for this machine: what fits in the time, given what a forward pass and a step cost here."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fieldguide.assemble.speed import MEASURED_SIDE_PX, Speed
from fieldguide.errors import UsageError, counted, duration
from fieldguide.model import backbone as backbones
from fieldguide.model.classifier import Classifier, demand_image_size
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SizedRecipe
from fieldguide.recipe.resolve import PROBE, with_plan, with_sizes
from fieldguide.recipe.schema import AUTO
from fieldguide.settings import BatchNorm, Phase, Rounds
from fieldguide.training.budget import (
    Costs,
    Planned,
    Task,
    candidate_sides,
    choose_batch_size,
    choose_side,
    has_no_time_for_steps,
    judgings_to_choose,
    plan_epochs,
    reserve_seconds,
)

PARTS = {"all": "the whole network", "last_two_stages": "its last two stages"}


@dataclass(frozen=True)
class Outlook:
    """What a plan has to fit."""

    seconds_left: Callable[[], float] | None = None  # of the command's time, at the moment of the call
    short_side_px: int | None = None  # the median shorter side of the photos


class Planner:
    """Plans a training by what its network costs here; measures only when it must."""

    def __init__(
        self, recipe: ResolvedRecipe, model: Classifier, device: torch.device, images: int, validation_images: int
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.batch_size = recipe.training.batch_size or choose_batch_size(images)
        self.speed = Speed(recipe, model, device, self.batch_size)
        self.task = Task(
            images,
            validation_images,
            is_pretrained=recipe.model.weights != "none",
            can_probe=recipe.model.head == "linear" and not recipe.model.head_dropout,
            head_parameters=sum(parameter.numel() for parameter in model.head.parameters()),
        )

    def with_sizes(self, outlook: Outlook) -> SizedRecipe:
        """The recipe with batch size and image size, chosen here if they are open."""
        return with_sizes(self.recipe, self.recipe.data.image_size_px or self._side(outlook), self.batch_size)

    def _side(self, outlook: Outlook) -> int:
        sides = _sides(self.model, self.recipe.model.backbone, outlook.short_side_px)
        if outlook.seconds_left is None or len(sides) == 1:
            return sides[-1]
        costs = self.speed.costs(MEASURED_SIDE_PX if MEASURED_SIDE_PX in sides else sides[0])
        return choose_side(sides, costs, self.task, self._seconds_left(costs.forward, outlook))

    def with_plan(self, recipe: SizedRecipe, outlook: Outlook) -> tuple[PlannedRecipe, tuple[str, ...]]:
        """A recipe of `with_sizes` with its phases and rounds, and the plan in sentences."""
        planned = self._plan(recipe.data.image_size_px, outlook)
        phases = _phases(planned, self.speed.batch_norm, self.task)
        epochs = planned.round_epochs  # none is cut short, since the cosine ends at 0
        rounds = Rounds(max_rounds=planned.rounds, max_epochs=epochs, patience_epochs=epochs)
        made = with_plan(recipe, phases, rounds)
        told = told_plan(planned, made, self.task)
        if recipe.data.test_flips == "horizontal":
            told += ("tested on each photo and its mirror image",)
        return made, told

    def _plan(self, side: int, outlook: Outlook) -> Planned:
        forward = self.speed.forward(side)
        seconds = self._seconds_left(forward, outlook)
        if has_no_time_for_steps(forward, self.task, seconds):  # so they need not be measured
            return plan_epochs(Costs(side, forward, math.inf), self.task, seconds, lambda: None)
        costs = self.speed.costs(side)
        left = self._seconds_left(forward, outlook)
        return plan_epochs(costs, self.task, left, lambda: self.speed.part_step(side))

    def _seconds_left(self, forward: float, outlook: Outlook) -> float | None:
        return None if outlook.seconds_left is None else outlook.seconds_left() - self.reserve_seconds(forward)

    def reserve_seconds(self, forward: float) -> float:
        """Seconds the command needs after the last step, at this cost of a forward pass."""
        views = 2 if self.recipe.data.test_flips == "horizontal" else 1
        candidates, data = self.recipe.training.soup_candidates or 0, self.recipe.data
        chooses_size, chooses_crop = data.test_size_px == AUTO, data.test_crop_share == AUTO
        tried = judgings_to_choose(size=chooses_size, crop=chooses_crop, crop_share=data.crop_share)
        return reserve_seconds(forward, self.task.validation_images, views, candidates, tried)


def _phases(planned: Planned, batch_norm: BatchNorm, task: Task) -> list[Phase]:
    found = []
    if planned.probe:
        found.append(
            Phase(
                name=PROBE, method="probe", augmentation="none", max_epochs=1, trainable="head", batch_norm=batch_norm
            )
        )
    if planned.epochs:
        found.append(
            Phase(
                augmentation="mild" if task.is_pretrained else "standard",
                max_epochs=planned.epochs,
                trainable=planned.part,
                batch_norm=batch_norm,
                patience_epochs=planned.epochs,  # the cosine ends at 0
            )
        )
    return found


def _sides(model: Classifier, backbone: str, short_side_px: int | None) -> list[int]:
    """The candidate sizes that the network takes, smallest first."""
    pretrained = backbones.pretrained_preprocessing(backbone)["image_size_px"]
    on_meta, found = copy.deepcopy(model).to("meta"), []
    for side in candidate_sides(pretrained, short_side_px):
        try:
            demand_image_size(on_meta, side, backbone)
        except UsageError:
            continue
        found.append(side)
    return found or [pretrained]


def told_plan(planned: Planned, recipe: PlannedRecipe, task: Task) -> tuple[str, ...]:
    """The plan in two or three lines."""
    lines = []
    if planned.probe:
        takes = duration(planned.probe_seconds)
        if planned.probe_share < 1:
            some = max(1, round(planned.probe_share * task.images))
            lines.append(f"probe on frozen features of about {some:,} photos; all {task.images:,} would take {takes}")
        else:
            lines.append(f"probe on frozen features, about {takes}")
    if planned.epochs:
        part = PARTS[planned.part] if task.is_pretrained else "the whole network from random weights"
        takes = duration(planned.epochs * planned.epoch_seconds)
        share = recipe.training.mix_probability
        mixed = f" ({share:.0%} of them with mixed photos)" if share else ""
        lines.append(
            f"{part} for {counted(planned.epochs, 'epoch')} at {recipe.data.image_size_px} px in batches of "
            f"{recipe.training.batch_size}{mixed}, about {takes} ({duration(planned.epoch_seconds)} an epoch)"
        )
    else:
        lines.append("no training epochs fit in the time")
    if planned.rounds:
        takes = duration(planned.rounds * planned.round_epochs * planned.epoch_seconds)
        lines.append(
            f"up to {planned.rounds} rounds of {planned.round_epochs} epochs at half the rate while validation "
            f"improves, at most {takes}"
        )
    return tuple(lines)
