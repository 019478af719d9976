"""A plan for this machine: what fits in the time, given what a forward pass and a step cost here."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fieldguide.assemble.probing import PHOTOS_A_CLASS
from fieldguide.assemble.speed import MEASURED_SIDE_PX, Speed
from fieldguide.data.split.partition import Split
from fieldguide.errors import UsageError, counted, duration
from fieldguide.model import backbone as backbones
from fieldguide.model.classifier import Classifier, demand_image_size
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SizedRecipe
from fieldguide.recipe.resolve import GENTLE, GENTLER, PROBE, with_plan, with_sizes
from fieldguide.recipe.schema import AUTO
from fieldguide.settings import BatchNorm, Phase, Rounds
from fieldguide.training.budget import (
    JUDGED,
    MOST_EPOCHS,
    MOST_EPOCHS_FROM_SCRATCH,
    PROBED,
    RESERVE,
    Costs,
    Judging,
    Planned,
    Task,
    candidate_sides,
    choose_batch_size,
    choose_side,
    fewest_of_an_epoch,
    has_no_time_for_steps,
    judgings_to_choose,
    plan_epochs,
    solving_of,
)
from fieldguide.training.plan import Pace
from fieldguide.world import slowness

VIEWS = {"none": 1, "horizontal": 2}
PARTS = {"all": "the whole network", "last_two_stages": "its last two stages"}


@dataclass(frozen=True)
class Outlook:
    """What a plan has to fit."""

    seconds_left: Callable[[], float] | None = None  # of the command's time, at the moment of the call
    short_side_px: int | None = None  # the median shorter side of the photos

    def seconds(self) -> float | None:
        """The time left; None: no limit."""
        return None if self.seconds_left is None else self.seconds_left()


class Planner:
    """Plans a training by what its network costs here; measures only when it must."""

    def __init__(
        self, recipe: ResolvedRecipe, model: Classifier, device: torch.device, split: Split, processes: int = 1
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.batch_size = recipe.training.batch_size or choose_batch_size(len(split.part("train")))
        self.speed = Speed(recipe, model, device, self.batch_size, processes)
        self.slowness = slowness()
        self.task = Task(
            len(split.part("train")),
            len(split.part("val")),
            len(split.classes),
            is_pretrained=recipe.model.weights != "none",
            can_probe=recipe.model.head == "linear" and not recipe.model.head_dropout,
            head_parameters=sum(parameter.numel() for parameter in model.head.parameters()),
            slowness=self.slowness,
        )

    def with_sizes(self, outlook: Outlook) -> SizedRecipe:
        """The recipe with batch size, image size and the cache's size, chosen here if they are open.

        A probe sees a photo once, so where there is no time for more, a cache would only delay it.
        """
        side = self.recipe.data.image_size_px or self._side(outlook)
        is_short = outlook.seconds_left is not None and self._has_no_time_for_steps(side, outlook)
        return with_sizes(self.recipe, side, self.batch_size, caches=not is_short)

    def _side(self, outlook: Outlook) -> int:
        sides = _sides(self.model, self.recipe.model.backbone, outlook.short_side_px)
        if outlook.seconds_left is None or len(sides) == 1:
            return sides[-1]
        costs = self.speed.costs(MEASURED_SIDE_PX if MEASURED_SIDE_PX in sides else sides[0])
        left, task = self._outlook(costs.side_px, outlook, steps=True)
        return choose_side(sides, costs, task, left)

    def with_plan(self, recipe: SizedRecipe, outlook: Outlook) -> tuple[PlannedRecipe, tuple[str, ...], Pace]:
        """A recipe of `with_sizes` with its phases and rounds, the plan in sentences, and the pace that it expects."""
        planned, choosing = self._plan(recipe.data.image_size_px, outlook)
        planned = bounded(planned, recipe.training.max_epochs, recipe.training.rounds.max_rounds)
        phases = _phases(planned, self.speed.batch_norm, self.task, recipe.training.learning_rate)
        epochs = planned.round_epochs  # none is cut short, since the cosine ends at 0
        rounds = Rounds(max_rounds=planned.rounds, max_epochs=epochs, patience_epochs=epochs)
        part = None if choosing == self.task.validation_images else choosing
        made = with_plan(recipe, phases, rounds, part)
        told = told_plan(planned, made, self.task)
        if part is not None:
            what = "the epoch is chosen" if planned.epochs else "the probe is validated"
            told += (f"{what} on {part:,} of {self.task.validation_images:,} validation photos, stratified by class",)
        most = MOST_EPOCHS if self.task.is_pretrained else MOST_EPOCHS_FROM_SCRATCH
        if recipe.training.max_epochs is not None:
            most = min(most, planned.epochs)
        task, forward = self.task, self.speed.forward(recipe.data.image_size_px)
        solving, view = solving_of(task), task.images * forward * PROBED
        passes = (
            view,
            solving.always,
            solving.first,
            solving.further,
            choosing * forward,
            fewest_of_an_epoch(task.images),
        )
        pace = Pace(planned.probe_seconds, planned.epoch_seconds, most, *passes, is_spare=planned.is_spare)
        return made, told, pace

    def _plan(self, side: int, outlook: Outlook) -> tuple[Planned, int]:
        """The plan, and how many photos choose the epoch."""
        forward = self.speed.forward(side)
        if self._has_no_time_for_steps(side, outlook):  # so they need not be measured
            left, task = self._outlook(side, outlook, steps=False)
            return plan_epochs(Costs(side, forward, math.inf), task, left, lambda: None), task.validation_images
        costs = self.speed.costs(side)
        left, task = self._outlook(side, outlook, steps=True)
        planned = plan_epochs(costs, task, left, lambda: self.speed.part_step(side))
        if planned.is_spare and self.recipe.training.imbalance != "none":  # the head is another where no step follows
            planned = replace(planned, epochs=0, is_spare=False)
        return planned, task.validation_images

    def _has_no_time_for_steps(self, side: int, outlook: Outlook) -> bool:
        left, task = self._outlook(side, outlook, steps=False)
        return has_no_time_for_steps(self.speed.forward(side), task, left)

    def _outlook(self, side: int, outlook: Outlook, *, steps: bool) -> tuple[float | None, Task]:
        """Seconds for training, and the task with the validation photos of each epoch."""
        judging = self._judging(self.recipe, side, outlook, steps=steps)
        seconds = outlook.seconds()  # after what was measured
        part = self.recipe.training.validation_photos or judging.choosing(seconds, self.task.num_classes, steps=steps)
        task = replace(self.task, validation_images=min(part, judging.images))
        left = None if seconds is None else seconds - judging.reserve(seconds, task.validation_images)
        return left, task

    def most_seconds(self, recipe: PlannedRecipe, outlook: Outlook) -> float | None:
        """How long the epochs of this plan may take together; None: as long as they need."""
        if (seconds := outlook.seconds()) is None:
            return None
        steps = any(phase.method == "gradient" for phase in recipe.training.phases)
        judging = self._judging(recipe, recipe.data.image_size_px, outlook, steps=steps)
        choosing = min(recipe.training.validation_photos or judging.images, judging.images)
        return max(0.0, seconds - judging.reserve(seconds, choosing))

    def _judging(self, recipe: ResolvedRecipe, side: int, outlook: Outlook, *, steps: bool) -> Judging:
        """Without `steps` there are no means to be tried; without a limit, what judging takes is not measured."""
        at_end = 0.0 if outlook.seconds_left is None else self.speed.as_built(side)
        data, means = recipe.data, 2 if recipe.training.soup == "probe" else recipe.training.soup_candidates or 0
        chooses_size, chooses_crop = data.test_size_px == AUTO, data.test_crop_share == AUTO
        return Judging(
            self.task.validation_images,
            self.speed.forward(side),
            JUDGED * at_end * VIEWS[data.test_flips],
            means if steps else 0,
            judgings_to_choose(size=chooses_size, crop=chooses_crop, crop_share=data.crop_share),
            RESERVE * self.slowness,
        )


def bounded(planned: Planned, max_epochs: int | None, max_rounds: int) -> Planned:
    """The plan within the bounds of `training.max_epochs`, which counts a probe as one, and of the rounds."""
    rounds = min(planned.rounds, max_rounds)
    if max_epochs is None:
        return replace(planned, rounds=rounds)
    epochs = min(planned.epochs, max(max_epochs - planned.probe, 0 if planned.probe else 1))
    left = max_epochs - planned.probe - epochs
    return replace(planned, epochs=epochs, rounds=min(rounds, left // planned.round_epochs))


def _phases(planned: Planned, batch_norm: BatchNorm, task: Task, learning_rate: float) -> list[Phase]:
    found, tunes = [], "mild" if task.is_pretrained else "standard"
    if planned.probe:
        augmentation = GENTLE if planned.views > 1 else "none"
        views = planned.views
        found.append(Phase(name=PROBE, method="probe", augmentation=augmentation, views=views, batch_norm=batch_norm))
    if planned.epochs:
        found.append(
            Phase(
                augmentation=GENTLE if planned.is_gentle else tunes,
                learning_rate=float(f"{learning_rate * GENTLER:.3g}") if planned.is_gentle else None,
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
        fits = round(planned.probe_share * task.images)
        some = max(fits, min(task.images, PHOTOS_A_CLASS * task.num_classes))
        about = f" of about {some:,} photos; all {task.images:,} would take" if some < task.images else ", about"
        late = math.ceil((some - fits) * planned.probe_seconds / max(1, task.images))
        short = (
            f"; the time is about {duration(late)} too short even for this, so training ends late" if late > 0 else ""
        )
        joined = "" if recipe.model.features == "last" else " of three stages"
        most = "" if planned.epochs and not planned.is_spare else "up to "  # time decides after each
        views = f" in {most}{planned.views} views of each photo" if planned.views > 1 else ""
        lines.append(f"probe on frozen features{joined}{views}{about} {duration(planned.probe_seconds)}{short}")
    if planned.epochs:
        part = PARTS[planned.part] if task.is_pretrained else "the whole network from random weights"
        takes = duration(planned.epochs * planned.epoch_seconds)
        share = recipe.training.mix_probability
        mixed = f" ({share:.0%} of them with mixed photos)" if share else ""
        spare = "if the probe leaves time, " if planned.is_spare else ""
        lines.append(
            f"{spare}{part} for {counted(planned.epochs, 'epoch')} at {recipe.data.image_size_px} px in batches of "
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
