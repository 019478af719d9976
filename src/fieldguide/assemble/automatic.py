"""A plan for the machine at hand: what a forward pass and a step cost here, and what fits into the time by that."""

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fieldguide.assemble.backbone import FORWARDS_A_STEP
from fieldguide.assemble.tools import autocast, make_optimizer_of
from fieldguide.errors import UsageError, counted, duration
from fieldguide.model import backbone as backbones
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Architecture, Classifier, demand_image_size, make_classifier, set_trainable
from fieldguide.model.table import known_backbones
from fieldguide.recipe.resolve import PROBE, planned_mixing, resolve
from fieldguide.recipe.schema import AUTO, BatchNorm, Phase, Recipe, Rounds, Training
from fieldguide.training.budget import (
    FEWEST_STEPS,
    LARGEST_BATCH,
    Costs,
    Part,
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
from fieldguide.training.step import StepSettings, train_step, training_mode
from fieldguide.world import multiplies_bfloat16

MEASURED_PHOTOS = 32  # at once
ENOUGH_PHOTOS = LARGEST_BATCH * FEWEST_STEPS  # for the largest batch
QUICK_STEP_SECONDS = 1.0  # on a CPU, a quicker one is measured with its whole batch, as the optimiser's part counts
MEASURED_SECONDS, MOST_REPEATS = 1.0, 8
MEASURED_BACKBONE = "resnet18."  # where the backbone is not chosen yet
MEASURED_SIDE_PX = 128  # where the side is not chosen yet
PARTS = {"all": "the whole network", "last_two_stages": "its last two stages"}
BESIDE_THE_STEP = 1.02  # augmentation, the display; 1.01 where an epoch was held against it


@dataclass(frozen=True)
class Outlook:
    """What a plan has to fit.

    Attributes:
        seconds_left: of the command's time, asked when it is needed; None: there is no bound.
        short_side_px: half of the photos have at least this shorter side; None: not known.
    """

    seconds_left: Callable[[], float] | None = None
    short_side_px: int | None = None


class Planner:
    """Measures a network with its first weights, which it never changes, and writes what fits into the recipe."""

    def __init__(
        self, recipe: Recipe, model: Classifier, device: torch.device, images: int, validation_images: int
    ) -> None:
        """Prepares a plan.

        Args:
            recipe: whose `training.plan` is auto.
            model: with its first weights, on the device.
            device: of the training.
            images: training photos.
            validation_images: validation photos.
        """
        self.recipe = recipe
        self.model = model
        self.device = device
        self.batch_norm = _batch_norm(recipe, model)
        self.batch_size = recipe.training.batch_size or choose_batch_size(images)
        self._forward: dict[int, float] = {}
        self.task = Task(
            images,
            validation_images,
            is_pretrained=recipe.model.weights != "none",
            can_probe=recipe.model.head == "linear" and not recipe.model.head_dropout,
            head_parameters=sum(parameter.numel() for parameter in model.head.parameters()),
        )

    def with_sizes(self, outlook: Outlook) -> Recipe:
        """The recipe with the batch size and the image size chosen where they are open."""
        side = self.recipe.data.image_size_px or self._side(outlook)
        return self.recipe.model_copy(
            update={
                "training": self.recipe.training.model_copy(update={"batch_size": self.batch_size}),
                "data": self.recipe.data.model_copy(update={"image_size_px": side}),
            }
        )

    def _side(self, outlook: Outlook) -> int:
        sides = _sides(self.model, self.recipe.model.backbone, outlook.short_side_px)
        if outlook.seconds_left is None or len(sides) == 1:
            return sides[-1]
        costs = self.costs(MEASURED_SIDE_PX if MEASURED_SIDE_PX in sides else sides[0])
        return choose_side(sides, costs, self.task, self._seconds_left(costs.forward, outlook))

    def with_plan(self, recipe: Recipe, outlook: Outlook) -> tuple[Recipe, tuple[str, ...]]:
        """A recipe of `with_sizes` with phases and rounds in place of `plan: auto`, and the plan in sentences."""
        side = recipe.data.image_size_px
        assert side is not None and recipe.training.learning_rate is not None, "the recipe is not resolved"
        forward = self.forward(side)
        seconds = self._seconds_left(forward, outlook)
        if has_no_time_for_steps(forward, self.task, seconds):  # then they need not be measured either
            planned = plan_epochs(Costs(side, forward, math.inf), self.task, seconds, lambda: None)
        else:
            costs = Costs(side, forward, self.step(side, "all"))
            planned = plan_epochs(costs, self.task, self._seconds_left(forward, outlook), lambda: self._part_step(side))
        phases = tuple(_phases(planned, self.batch_norm, self.task))
        training = recipe.training.model_copy(
            update={
                "plan": None,
                "max_minutes": None,
                "phases": phases,
                "rounds": _rounds(planned),
                **planned_mixing(recipe, phases),
            }
        )
        told = told_plan(planned, side, training, self.task)
        if recipe.data.test_flips == "horizontal":
            told += ("tested on each photo and its mirror image",)
        return recipe.model_copy(update={"training": training}), told

    def _seconds_left(self, forward: float, outlook: Outlook) -> float | None:
        if outlook.seconds_left is None:
            return None
        return outlook.seconds_left() - self.reserve_seconds(forward)

    def reserve_seconds(self, forward: float) -> float:
        """What the command needs after the last step, by what a forward pass costs a photo."""
        views = 2 if self.recipe.data.test_flips == "horizontal" else 1
        candidates, data = self.recipe.training.soup_candidates or 0, self.recipe.data
        chooses_size, chooses_crop = data.test_size_px == AUTO, data.test_crop_share == AUTO
        tried = judgings_to_choose(size=chooses_size, crop=chooses_crop, crop_share=data.crop_share)
        return reserve_seconds(forward, self.task.validation_images, views, candidates, tried)

    def _part_step(self, side_px: int) -> float | None:
        try:
            return self.step(side_px, "last_two_stages")
        except UsageError:  # timm does not tell its stages
            return None

    def costs(self, side_px: int) -> Costs:
        """A forward pass and a step of the whole network."""
        return Costs(side_px, self.forward(side_px), self.step(side_px, "all"))

    def forward(self, side_px: int) -> float:
        """Seconds a photo in evaluation mode, measured once a side."""
        if side_px not in self._forward:
            self._forward[side_px] = self._measured_forward(side_px)
        return self._forward[side_px]

    def _measured_forward(self, side_px: int) -> float:
        model, images = self._copy(side_px), self._images(side_px, MEASURED_PHOTOS)
        model.eval()

        def run() -> None:
            with torch.inference_mode(), self._precision():
                model(images)

        return self._timed(run) / len(images)

    def step(self, side_px: int, part: Part) -> float:
        """Seconds a photo of a training step in which a part learns."""
        taken = FORWARDS_A_STEP * self.batch_size * self.forward(side_px)  # about, in seconds
        is_quick = self.device.type == "cpu" and taken < QUICK_STEP_SECONDS
        count = self.batch_size if is_quick else min(MEASURED_PHOTOS, self.batch_size)
        model, images = self._copy(side_px), self._images(side_px, count)
        set_trainable(model, part)
        training_mode(model)
        optimizer = make_optimizer_of(self.recipe)(model, 1e-6)
        labels = torch.zeros(len(images), dtype=torch.int64, device=self.device)
        settings = StepSettings(0.0, None, self._precision)
        return (
            BESIDE_THE_STEP * self._timed(lambda: train_step(model, optimizer, images, labels, settings)) / len(images)
        )

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        asked = self.recipe.training.precision
        is_bfloat16 = asked == "bf16" or (asked == "auto" and multiplies_bfloat16(self.device))
        return autocast(is_bfloat16, self.device)()

    def _copy(self, side_px: int) -> Classifier:
        model = copy.deepcopy(self.model)
        set_batch_norm(model, self.batch_norm, side_px)
        return model

    def _images(self, side_px: int, count: int) -> torch.Tensor:
        images = torch.zeros(count, 3, side_px, side_px, device=self.device)
        fast = self.recipe.execution == "fast"
        return images.contiguous(memory_format=torch.channels_last) if fast else images

    def _timed(self, run: Callable[[], object]) -> float:
        """Seconds of one run, the median of some after the first, which is slower."""
        run()
        self._wait()
        found: list[float] = []
        while len(found) < 2 or (sum(found) < MEASURED_SECONDS and len(found) < MOST_REPEATS):
            begin = time.perf_counter()
            run()
            self._wait()
            found.append(time.perf_counter() - begin)
        return sorted(found)[len(found) // 2]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def macs_per_second(recipe: Recipe, device: torch.device) -> float:
    """Multiply-accumulates a second in a training step here, forward and backward, on a small ResNet of the table.

    Args:
        recipe: as it was read; its precision and execution are what is measured.
        device: of the training.
    """
    known = next(entry for entry in known_backbones() if entry.name.startswith(MEASURED_BACKBONE))
    measured = recipe.model.model_copy(update={"backbone": known.name, "weights": "none"})
    own = backbones.pretrained_preprocessing(known.name)
    filled = resolve(recipe.model_copy(update={"model": measured}), own)
    model = make_classifier(Architecture(known.name, "linear", None, 0.0, 2)).to(device)
    if filled.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    step = Planner(filled, model, device, ENOUGH_PHOTOS, 0).step(MEASURED_SIDE_PX, "all")
    return FORWARDS_A_STEP * 1e9 * known.gmacs_at(MEASURED_SIDE_PX) / step


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
                patience_epochs=planned.epochs,  # a cosine goes to its end
            )
        )
    return found


def _rounds(planned: Planned) -> Rounds:
    epochs = planned.round_epochs
    return Rounds(max_rounds=planned.rounds, max_epochs=epochs, patience_epochs=epochs)  # a cosine goes to its end


def _batch_norm(recipe: Recipe, model: Classifier) -> BatchNorm:
    """Folded where the weights know statistics and this backbone can be folded."""
    if recipe.model.weights == "none":
        return "train"
    try:
        set_batch_norm(copy.deepcopy(model), "folded", recipe.data.image_size_px or MEASURED_SIDE_PX)
    except UsageError:
        return "frozen"
    return "folded"


def _sides(model: Classifier, backbone: str, short_side_px: int | None) -> list[int]:
    """The sizes that come into question and that the network takes, smallest first."""
    pretrained = backbones.pretrained_preprocessing(backbone)["image_size_px"]
    on_meta, found = copy.deepcopy(model).to("meta"), []
    for side in candidate_sides(pretrained, short_side_px):
        try:
            demand_image_size(on_meta, side, backbone)
        except UsageError:
            continue
        found.append(side)
    return found or [pretrained]


def told_plan(planned: Planned, side_px: int, training: Training, task: Task) -> tuple[str, ...]:
    """What is trained, in two or three lines that a person understands."""
    lines = []
    if planned.probe:
        takes = duration(planned.probe_seconds)
        if planned.probe_share < 1:
            some = max(1, round(planned.probe_share * task.images))
            lines.append(
                f"probe on frozen features of some {some:,} photos, for all {task.images:,} would take {takes}"
            )
        else:
            lines.append(f"probe on frozen features, about {takes}")
    if planned.epochs:
        part = PARTS[planned.part] if task.is_pretrained else "the whole network from random weights"
        takes = duration(planned.epochs * planned.epoch_seconds)
        share = training.mix_probability
        mixed = f" ({share:.0%} of them of photos mixed with each other)" if share else ""
        lines.append(
            f"{part} for {counted(planned.epochs, 'epoch')} at {side_px} px in batches of "
            f"{training.batch_size}{mixed}, about {takes} ({duration(planned.epoch_seconds)} an epoch)"
        )
    else:
        lines.append("no epoch of training, for none fits into the time")
    if planned.rounds:
        takes = duration(planned.rounds * planned.round_epochs * planned.epoch_seconds)
        lines.append(
            f"rounds of {planned.round_epochs} epochs at half the rate while validation gets better, at the most "
            f"{planned.rounds} of them in {takes}"
        )
    return tuple(lines)
