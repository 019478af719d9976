"""What a recipe says about network, preprocessing and machine, before anything is built."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fieldguide.assemble.backbone import Budget, resolve_backbone
from fieldguide.assemble.speed import macs_per_second
from fieldguide.data.batch.feed import NO_OPENCV, can_fuse
from fieldguide.data.batch.guard import demand_guard
from fieldguide.data.batch.worker_batches import FEW_PHOTOS
from fieldguide.data.read.preprocess import Preprocessing, resized_side
from fieldguide.data.read.reading import Reading
from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model import pretrained
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import (
    Classifier,
    can_join_stages,
    count_parameters,
    demand_image_size,
    make_on_meta,
    stage_names,
    trainable_names,
)
from fieldguide.model.weights import demand_weights, licence_of, problem_with_weights, what_pretrained
from fieldguide.recipe.contradictions import contradictions
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SizedRecipe
from fieldguide.recipe.resolve import resolve
from fieldguide.recipe.rules import verdict
from fieldguide.recipe.schema import AUTO, Data, Recipe
from fieldguide.world import can_compile, multiplies_bfloat16, multiplies_float16

CPU = torch.device("cpu")
NO_COMPILER = (
    "training.compile: always needs a C++ compiler, and on a GPU also Triton and a C compiler; install them, or choose "
    "never"
)
NOT_NATIVE = "training.precision: {} does not multiply {} natively; choose auto or fp32"


def problems_with_model(recipe: Recipe) -> list[str]:
    """What is wrong with backbone and weights, as far as can be checked without building anything."""
    backbone, weights = recipe.model.backbone, recipe.model.weights
    found = [backbones.problem_with_backbone(backbone), problem_with_weights(weights)]
    if weights == "hub" and found[0] is None:
        found.append(pretrained.problem_with_hub_weights(backbone))
    return [problem for problem in found if problem]


def problems_with_machine(recipe: Recipe, device: torch.device) -> list[str]:
    """What in the recipe this machine cannot do."""
    no_opencv = recipe.augmentation.engine == "fused" and not can_fuse(device)
    no_compiler = recipe.training.compile == "always" and not can_compile(device)
    precision = recipe.training.precision
    not_native = (precision == "bf16" and not multiplies_bfloat16(device)) or (
        precision == "fp16" and not multiplies_float16(device)
    )
    told = NOT_NATIVE.format(device, precision)
    found = [(no_opencv, NO_OPENCV), (no_compiler, NO_COMPILER), (not_native, told)]
    return [problem for is_there, problem in found if is_there]


def with_backbone(recipe: Recipe, num_classes: int, images: int, device: torch.device) -> tuple[Recipe, str]:
    """A recipe whose `model.backbone: auto` is replaced, by rules, minutes and this machine; and a sentence why."""
    if recipe.model.backbone != AUTO:
        return recipe, ""
    minutes = recipe.training.max_minutes
    speed = None if minutes is None else macs_per_second(recipe, device)
    return resolve_backbone(recipe, num_classes, Budget(images, minutes, speed))


def resolved(recipe: Recipe, device: torch.device = CPU) -> ResolvedRecipe:
    """The recipe with its defaults filled in; its paths are absolute."""
    name = recipe.model.backbone
    can_join = recipe.model.features == AUTO and can_join_stages(name)
    made = resolve(recipe, backbones.pretrained_preprocessing(name), can_fuse=can_fuse(device), can_join=can_join)
    if made.model.weights in ("hub", "none"):
        return made
    model = made.model.model_copy(update={"weights": str(Path(made.model.weights).resolve())})
    return made.model_copy(update={"model": model})


def demand_no_contradiction(recipe: Recipe) -> None:
    """Checks what was filled in against what was asked for, so that a run's own recipe can always be read again."""
    if found := contradictions(recipe):
        raise UsageError(*dict.fromkeys(each.message for each in found))


def architecture(recipe: ResolvedRecipe, num_classes: int) -> Architecture:
    """The network that a recipe describes."""
    model, size = recipe.model, recipe.data.image_size_px
    return Architecture(
        model.backbone, model.head, model.head_width, model.head_dropout, num_classes, model.features, size
    )


def hold_against_rules(
    recipe: ResolvedRecipe, num_classes: int, other_photos: int = 0, unknown: Sequence[str] = ()
) -> dict[str, Any]:
    """The verdict on a recipe, before anything is trained; `other_photos` and `unknown` are as for `verdict`.

    Raises:
        UsageError: a rule is broken, the backbone does not take images of that size, or it lacks the part that a phase
            trains or the stages by which learning rates fall.
    """
    model = make_on_meta(architecture(recipe, num_classes))
    size = recipe.data.image_size_px or backbones.pretrained_preprocessing(recipe.model.backbone)["image_size_px"]
    demand_image_size(model, size, recipe.model.backbone)
    if isinstance(recipe.data.test_size_px, int):
        demand_image_size(model, recipe.data.test_size_px, recipe.model.backbone, "data.test_size_px")
    for place, phase in enumerate(recipe.training.phases):
        trainable_names(model, phase.trainable)
        if phase.image_size_px and phase.image_size_px != size:
            field = f"training.phases.{place}.image_size_px"
            demand_image_size(model, phase.image_size_px, recipe.model.backbone, field)
    if recipe.training.layer_decay < 1:
        _demand_stages(model, recipe)
    pretrained_on = what_pretrained(recipe.model.weights, recipe.model.backbone)
    licence = licence_of(recipe.model.weights, recipe.model.backbone)
    found = verdict(recipe, count_parameters(model)["total"], pretrained_on, other_photos, unknown, licence)
    if not found["kept"]:
        raise UsageError(*found["broken"])
    return found


def demand_before_photos(recipe: ResolvedRecipe, num_classes: int, images: int) -> None:
    """Checks what needs no photo's content: the rules, the weights, and a script that workers would run again.

    Raises:
        UsageError: as `hold_against_rules`, `demand_weights` and `demand_guard`, or the Hub's weights cannot be had.
    """
    hold_against_rules(recipe, max(2, num_classes))
    demand_weights(make_on_meta(architecture(recipe, max(2, num_classes))), recipe.model.weights)
    if recipe.augmentation.engine == "reference" and images >= FEW_PHOTOS:
        demand_guard()
    if recipe.model.weights == "hub":
        pretrained.hub_weights(recipe.model.backbone)  # from then on they lie in the Hub's cache


def _demand_stages(model: Classifier, recipe: ResolvedRecipe) -> None:
    try:
        stage_names(model)
    except UsageError:
        raise UsageError(
            f"training.layer_decay is {recipe.training.layer_decay:g}, but timm lists no stages for "
            f"{recipe.model.backbone}; set training.layer_decay=1 for the same rate everywhere"
        ) from None


def preprocessing_of(recipe: SizedRecipe) -> Preprocessing:
    """The preprocessing of a recipe, as in its training."""
    data, side = recipe.data, recipe.data.image_size_px
    resize_px = resized_side(side, data.crop_share)
    return Preprocessing(side, resize_px, data.interpolation, data.mean, data.std, reading=reading_of(data))


def reading_of(data: Data) -> Reading:
    """How files are read; where it is not settled yet, as without the field."""
    return Reading.of_recipe(dict(data))


def served_preprocessing_of(recipe: PlannedRecipe) -> Preprocessing:
    """The training's preprocessing with what differs at test time, where `auto` is the training's until chosen."""
    data, made = recipe.data, preprocessing_of(recipe)
    size = data.test_size_px if isinstance(data.test_size_px, int) else made.image_size_px
    share = data.test_crop_share if isinstance(data.test_crop_share, float) else data.crop_share
    return replace(made, image_size_px=size, resize_px=resized_side(size, share), flips=data.test_flips)
