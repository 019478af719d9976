"""How many photos of a step go through the network at once, by a step on the device; and what is left for photos."""

import copy
from collections.abc import Callable

import torch

from fieldguide.assemble.tools import make_optimizer_of, precision_context
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier, set_trainable
from fieldguide.recipe.lives import PlannedRecipe
from fieldguide.recipe.resolve import largest_size_px
from fieldguide.training.memory import Fit, Meter, fitting, kept_bytes_per_image, measured_fit
from fieldguide.training.step import MicroBatch, StepSettings, train_step, training_mode
from fieldguide.world import available_bytes

SPARE = 1.1  # times what a step takes is kept from photos, for other shapes and the moving average


def meter_of(device: torch.device) -> Meter | None:
    """Measures memory; None where the device cannot, or where memory that runs out ends the process."""
    if device.type != "cuda":
        return None
    before = 0

    def restart() -> None:
        nonlocal before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)

    def peak() -> int:  # reserved, with what lies between tensors
        return int(torch.cuda.max_memory_reserved(device)) - before

    return Meter(lambda: available_bytes(device) or 0, restart, peak)


def fit(
    model: Classifier, recipe: PlannedRecipe, precision: str, most: int, meter: Meter | None, *, is_needed: bool = False
) -> Fit:
    """How many photos go through at once, at most `most`, and what a step takes.

    Bytes are 0 where they are not measured. A number in the recipe is taken as it is, and measured if `is_needed`.
    """
    asked = recipe.training.micro_batch_size
    if asked is not None and (meter is None or not is_needed):
        return Fit(asked, 0)
    if meter is None:
        device = next(model.parameters()).device
        kept = kept_bytes_per_image(model, largest_size_px(recipe)[1], precision_context(precision, device))
        return Fit(fitting(recipe.training.batch_size, kept, available_bytes(device)), 0)
    found = measured_fit(min(asked or most, most), a_step(model, recipe, precision, most), meter)
    if asked is not None:
        return Fit(asked, found.bytes)
    return found if found.photos < most else Fit(recipe.training.batch_size, found.bytes)  # nothing to split


def a_step(model: Classifier, recipe: PlannedRecipe, precision: str, most: int) -> Callable[[int], int]:
    """Takes a step of the phase that needs most, on a copy of the network; returns the photos at once at its end."""
    device = next(model.parameters()).device
    phases = [phase for phase in recipe.training.phases if phase.method != "probe" and not phase.is_left_out]
    size = largest_size_px(recipe)[1]
    phase = max(phases, key=lambda each: (each.trainable == "all", each.batch_norm == "train"), default=None)

    def step(photos: int) -> int:
        own, at_once = copy.deepcopy(model), MicroBatch(photos)
        if phase is not None:
            set_batch_norm(own, phase.batch_norm, size)
            set_trainable(own, phase.trainable)
        training_mode(own)
        optimizer = make_optimizer_of(recipe)(own, 1e-6)
        images = torch.zeros(most, 3, size, size, device=device)
        if recipe.execution == "fast":
            images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(most, dtype=torch.int64, device=device)
        settings = StepSettings(0.0, None, precision_context(precision, device), at_once)
        train_step(own, optimizer, images, labels, settings)
        return at_once.photos

    return step
