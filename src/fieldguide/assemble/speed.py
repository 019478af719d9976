"""What a forward pass and a training step of a network cost on this machine."""

import contextlib
import copy
import functools
import time
from collections.abc import Callable

import torch

from fieldguide.assemble.backbone import FORWARDS_A_STEP
from fieldguide.assemble.tools import make_optimizer_of, precision_context
from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model.architecture import Architecture
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier, make_classifier, set_trainable
from fieldguide.model.table import known_backbones
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.resolve import resolve
from fieldguide.recipe.schema import Recipe
from fieldguide.settings import BatchNorm
from fieldguide.training.budget import FEWEST_STEPS, LARGEST_BATCH, Costs, Part, choose_batch_size
from fieldguide.training.step import StepSettings, train_step, training_mode
from fieldguide.world import fastest_precision, wait_for

MEASURED_PHOTOS, FEW_PHOTOS = 32, 8  # at once; where a photo may be slow
ENOUGH_PHOTOS = LARGEST_BATCH * FEWEST_STEPS  # for the largest batch
QUICK_STEP_SECONDS = 1.0  # on a CPU, quicker steps are measured with the whole batch, since the optimiser's part counts
MEASURED_SECONDS, MOST_REPEATS = 1.0, 8
MEASURED_BACKBONE = "resnet18."  # if the backbone is not chosen yet
MEASURED_SIDE_PX = 128  # if the side is not chosen yet
BESIDE_THE_STEP = 1.02  # augmentation and display; measured on an epoch: 1.01


class Speed:
    """Measures a network, whose weights stay as they are; nothing is measured before it is needed."""

    def __init__(
        self, recipe: ResolvedRecipe, model: Classifier, device: torch.device, batch_size: int, processes: int = 1
    ) -> None:
        """`processes` share each step evenly; what it takes to add up their gradients is not measured here."""
        self.processes = processes
        self.recipe = recipe
        self.model = model
        self.device = device
        self.batch_size = batch_size
        self._forward: dict[int, float] = {}
        self._as_built: dict[int, float] = {}

    @functools.cached_property
    def batch_norm(self) -> BatchNorm:
        """Folded if the weights have statistics and this backbone can be folded."""
        if self.recipe.model.weights == "none":
            return "train"
        try:
            set_batch_norm(copy.deepcopy(self.model), "folded", self.recipe.data.image_size_px or MEASURED_SIDE_PX)
        except UsageError:
            return "frozen"
        return "folded"

    @property
    def precision(self) -> str:
        """What the network trains in here: `bf16`, `fp16` or `fp32`."""
        asked = self.recipe.training.precision
        return fastest_precision(self.device) if asked == "auto" else asked

    def costs(self, side_px: int) -> Costs:
        """A forward pass and a step of the whole network."""
        return Costs(side_px, self.forward(side_px), self.step(side_px, "all"))

    def forward(self, side_px: int) -> float:
        """Seconds per photo in evaluation mode, measured once per side."""
        if side_px in self._forward:
            return self._forward[side_px]
        model, images = self._copy(side_px), self._images(side_px, MEASURED_PHOTOS)
        model.eval()

        def run() -> None:
            with torch.inference_mode(), self._precision():
                model(images)

        self._forward[side_px] = self._timed(run) / len(images)
        return self._forward[side_px]

    def as_built(self, side_px: int) -> float:
        """Seconds per photo in fp32 by the network as it is built, which is what judges; measured once per side."""
        if side_px not in self._as_built:
            model = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format).eval()
            images = torch.zeros(FEW_PHOTOS, 3, side_px, side_px, device=self.device)

            def run() -> None:
                with torch.inference_mode():
                    model(images)

            self._as_built[side_px] = self._timed(run) / len(images)
        return self._as_built[side_px]

    def part_step(self, side_px: int) -> float | None:
        """As `step`, for the last two stages; None if timm does not list them."""
        try:
            return self.step(side_px, "last_two_stages")
        except UsageError:
            return None

    def step(self, side_px: int, part: Part) -> float:
        """Seconds per photo of a training step, by all processes, in which this part learns."""
        taken = FORWARDS_A_STEP * self.batch_size * self.forward(side_px)  # about, in seconds
        is_quick = self.device.type == "cpu" and taken < QUICK_STEP_SECONDS
        count = self.batch_size if is_quick else min(MEASURED_PHOTOS, self.batch_size)
        model, images = self._copy(side_px), self._images(side_px, count)
        set_trainable(model, part)
        training_mode(model)
        optimizer = make_optimizer_of(self.recipe)(model, 1e-6)
        labels = torch.zeros(len(images), dtype=torch.int64, device=self.device)
        settings = StepSettings(0.0, None, self._precision)
        seconds = self._timed(lambda: train_step(model, optimizer, images, labels, settings))
        return BESIDE_THE_STEP * seconds / len(images) / self.processes

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        return precision_context(self.precision, self.device)()

    def _copy(self, side_px: int) -> Classifier:
        model = copy.deepcopy(self.model)
        set_batch_norm(model, self.batch_norm, side_px)
        return model

    def _images(self, side_px: int, count: int) -> torch.Tensor:
        images = torch.zeros(count, 3, side_px, side_px, device=self.device)
        fast = self.recipe.execution == "fast"
        return images.contiguous(memory_format=torch.channels_last) if fast else images

    def _timed(self, run: Callable[[], object]) -> float:
        """Seconds of one run: the median of several after the first, which is slower; of long ones, one is enough."""
        run()
        wait_for(self.device)
        found: list[float] = []
        while sum(found) < MEASURED_SECONDS and len(found) < MOST_REPEATS:
            begin = time.perf_counter()
            run()
            wait_for(self.device)
            found.append(time.perf_counter() - begin)
        return sorted(found)[len(found) // 2]


def macs_per_second(recipe: Recipe, device: torch.device) -> float:
    """Multiply-accumulates per second in a training step here, forward and backward, on a small ResNet of the table."""
    known = next(entry for entry in known_backbones() if entry.name.startswith(MEASURED_BACKBONE))
    measured = recipe.model.model_copy(update={"backbone": known.name, "weights": "none"})
    own = backbones.pretrained_preprocessing(known.name)
    filled = resolve(recipe.model_copy(update={"model": measured}), own)
    model = make_classifier(Architecture(known.name, "linear", None, 0.0, 2)).to(device)
    if filled.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    batch_size = filled.training.batch_size or choose_batch_size(ENOUGH_PHOTOS)
    step = Speed(filled, model, device, batch_size).step(MEASURED_SIDE_PX, "all")
    return FORWARDS_A_STEP * 1e9 * known.gmacs_at(MEASURED_SIDE_PX) / step
