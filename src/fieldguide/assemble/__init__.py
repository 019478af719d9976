"""A recipe and a split to live objects: network, plan, batches, evaluation. Nowhere else are the rooms joined."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fieldguide.assemble.automatic import Outlook as Outlook
from fieldguide.assemble.automatic import Planner, macs_per_second
from fieldguide.assemble.backbone import Budget, resolve_backbone
from fieldguide.assemble.tools import Paths, autocast, make_tools
from fieldguide.data.augment import Policy
from fieldguide.data.batches import LabelledPhoto
from fieldguide.data.feed import NO_OPENCV, WITHOUT_OPENCV, Feed, can_fuse, make_feed
from fieldguide.data.preprocess import Preprocessing, resized_side
from fieldguide.data.split import Split
from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.bundle import Description
from fieldguide.model.classifier import (
    Architecture,
    Classifier,
    count_parameters,
    demand_image_size,
    make_classifier,
    make_on_meta,
    trainable_names,
)
from fieldguide.model.weights import LoadedWeights, load_weights, problem_with_weights, what_pretrained
from fieldguide.recipe.resolve import BATCH_SIZE, resolve, settle
from fieldguide.recipe.rules import verdict
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.training.budget import reserve_seconds
from fieldguide.training.memory import fitting, kept_bytes_per_image
from fieldguide.training.plan import Plan, Rounds, Stage
from fieldguide.training.tools import Tools
from fieldguide.world import available_bytes, can_compile, multiplies_bfloat16, repeatable

STEPS_TO_COMPILE = 2_000  # an estimate of where compiling pays on a GPU; it has not been measured on one yet
CPU = torch.device("cpu")
UNBOUND = Outlook()
NO_COMPILER = (
    "training.compile: always needs a C++ compiler, and on a GPU Triton and a C compiler, which are not found; install "
    "them, or choose never"
)
NO_BFLOAT16 = "training.precision: {} does not multiply bf16 natively; choose auto or fp32"


@dataclass(frozen=True)
class Assembled:
    """Everything that a training needs.

    Attributes:
        recipe: with every `auto` replaced by what this machine made of it.
        model: with its first weights, on the device.
        plan: phases and rounds.
        tools: what the loop works with.
        description: what the bundle will say.
        parameters: total, backbone, head.
        weights: where the first weights came from.
        feed: where the training's batches come from, and how long it waited for them.
        told: the plan that was made here, in sentences; none where the recipe had one.
    """

    recipe: Recipe
    model: Classifier
    plan: Plan
    tools: Tools
    description: Description
    parameters: dict[str, int]
    weights: LoadedWeights
    feed: Feed
    told: tuple[str, ...] = ()


def problems_with_model(recipe: Recipe) -> list[str]:
    """What is wrong with backbone and weights, as far as can be told without building anything."""
    backbone, weights = recipe.model.backbone, recipe.model.weights
    found = [backbones.problem_with_backbone(backbone), problem_with_weights(weights)]
    if weights == "hub" and found[0] is None:
        found.append(backbones.problem_with_hub_weights(backbone))
    return [problem for problem in found if problem]


def problems_with_machine(recipe: Recipe, device: torch.device) -> list[str]:
    """What of the recipe cannot be done on this machine."""
    no_opencv = recipe.augmentation.engine == "fused" and not can_fuse(device)
    no_compiler = recipe.training.compile == "always" and not can_compile(device)
    no_bfloat16 = recipe.training.precision == "bf16" and not multiplies_bfloat16(device)
    found = [(no_opencv, NO_OPENCV), (no_compiler, NO_COMPILER), (no_bfloat16, NO_BFLOAT16.format(device))]
    return [problem for is_there, problem in found if is_there]


def with_backbone(recipe: Recipe, num_classes: int, images: int, device: torch.device) -> tuple[Recipe, str]:
    """A recipe with a backbone in place of `auto`, by the rules, the minutes and this machine; and why that one.

    Raises:
        UsageError: the rules allow none.
    """
    if recipe.model.backbone != AUTO:
        return recipe, ""
    minutes = recipe.training.max_minutes
    speed = None if minutes is None else macs_per_second(recipe, device)
    return resolve_backbone(recipe, num_classes, Budget(images, minutes, speed))


def resolved(recipe: Recipe, device: torch.device = CPU) -> Recipe:
    """The recipe with nothing left open; paths in it hold from anywhere."""
    made = resolve(recipe, backbones.pretrained_preprocessing(recipe.model.backbone), can_fuse=can_fuse(device))
    weights = made.model.weights
    if weights not in ("hub", "none"):
        made = made.model_copy(
            update={"model": made.model.model_copy(update={"weights": str(Path(weights).resolve())})}
        )
    return made


def architecture(recipe: Recipe, num_classes: int) -> Architecture:
    """The network that a resolved recipe describes."""
    model = recipe.model
    assert model.head_dropout is not None, "the recipe is not resolved"
    return Architecture(model.backbone, model.head, model.head_width, model.head_dropout, num_classes)


def hold_against_rules(recipe: Recipe, num_classes: int) -> dict[str, Any]:
    """The verdict on a resolved recipe, before anything is trained.

    Raises:
        UsageError: a rule is broken, the backbone does not take images of that size, or a phase trains a part that it
            does not have.
    """
    model = make_on_meta(architecture(recipe, num_classes))
    size = recipe.data.image_size_px or backbones.pretrained_preprocessing(recipe.model.backbone)["image_size_px"]
    demand_image_size(model, size, recipe.model.backbone)
    if isinstance(recipe.data.test_size_px, int):
        demand_image_size(model, recipe.data.test_size_px, recipe.model.backbone, "data.test_size_px")
    for phase in recipe.training.phases:
        trainable_names(model, phase.trainable)
    found = verdict(
        recipe, count_parameters(model)["total"], what_pretrained(recipe.model.weights, recipe.model.backbone)
    )
    if not found["kept"]:
        raise UsageError(*found["broken"])
    return found


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """The preprocessing of a resolved recipe, as in its training."""
    data = recipe.data
    assert data.image_size_px and data.crop_share and data.interpolation and data.mean and data.std, "not resolved"
    return Preprocessing(
        data.image_size_px, resized_side(data.image_size_px, data.crop_share), data.interpolation, data.mean, data.std
    )


def served_preprocessing_of(recipe: Recipe) -> Preprocessing:
    """What the bundle of a resolved recipe says: the training's preprocessing, and what is done at test time alone.

    A size or crop share that is `auto` is the training's until it is chosen.
    """
    data, made = recipe.data, preprocessing_of(recipe)
    assert data.crop_share is not None, "the recipe is not resolved"
    size = data.test_size_px if isinstance(data.test_size_px, int) else made.image_size_px
    share = data.test_crop_share if isinstance(data.test_crop_share, float) else data.crop_share
    return replace(made, image_size_px=size, resize_px=resized_side(size, share), flips=data.test_flips)


def assemble(
    recipe: Recipe,
    split: Split,
    paths: Paths,
    device: torch.device,
    workers: int | None = None,
    loaded: LoadedWeights | None = None,
    tell: Callable[[str], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    outlook: Outlook = UNBOUND,
) -> Assembled:
    """Builds all that a training needs; a plan that is `auto` is made here, once.

    Args:
        recipe: resolved.
        split: which photo is in which part.
        paths: where each file of the split lies.
        device: where to train.
        workers: processes or threads that load photos; None: chosen by the machine. Results do not depend on it.
        loaded: where a training goes on, what is known of its first weights, which are not read again; None: read them.
        tell: takes a sentence about what happened to the processes that load photos.
        advance: called with how many more training photos the cache has.
        outlook: the time that the training has, and the photos' size.

    Raises:
        UsageError: the weights cannot be had or do not fit, the backbone's batch normalisation cannot be folded, or
            there is nothing to compile with any more.
        PhotosError: a photo that the cache lacks cannot be read, or is another one by now.
    """
    classes = split.classes
    if recipe.training.compile == "always" and not can_compile(device):
        raise UsageError(NO_COMPILER)
    described = architecture(recipe, len(classes))
    with repeatable(recipe.training.seed):
        model = make_classifier(described)
    weights = loaded or load_weights(model, recipe.model.weights, recipe.model.backbone, classes)
    model = model.to(device)
    if recipe.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    images, validation_images = len(split.part("train")), len(split.part("val"))
    planner = Planner(recipe, model, device, images, validation_images) if recipe.training.plan == "auto" else None
    if planner is not None:
        recipe = resolved(planner.with_sizes(outlook), device)
    preprocessing = preprocessing_of(recipe)
    if any(phase.batch_norm == "folded" for phase in recipe.training.phases):  # refused now, not when it begins
        set_batch_norm(copy.deepcopy(model), "folded", preprocessing.image_size_px)
    feed = _make_feed(recipe, split, paths, preprocessing, device, workers, advance)
    told: tuple[str, ...] = ()
    if planner is not None:
        recipe, told = planner.with_plan(recipe, outlook)
        recipe = resolved(recipe, device)
    plan = make_plan(recipe)
    if outlook.seconds_left is not None:
        judge = planner or Planner(recipe, model, device, images, validation_images)
        after = reserve_seconds(judge.forward(preprocessing.image_size_px), validation_images, plan.soup_candidates)
        plan = replace(plan, max_seconds=max(0.0, outlook.seconds_left() - after))
    # after the feed, for photos that lie in a GPU's memory leave less of it
    recipe = _settled(recipe, model, plan.most_epochs() * images, device)
    return Assembled(
        recipe=recipe,
        model=model,
        plan=plan,
        tools=make_tools(recipe, split, paths, preprocessing, device, feed, tell),
        description=Description(
            described, tuple(classes), served_preprocessing_of(recipe).to_dict(), weights.pretrained_on
        ),
        parameters=count_parameters(model),
        weights=weights,
        feed=feed,
        told=told,
    )


def _settled(recipe: Recipe, model: Classifier, images: int, device: torch.device) -> Recipe:
    """The recipe with every `auto` decided: by the device, the number of images in all, and the memory."""
    training = recipe.training
    assert training.batch_size and recipe.data.image_size_px, "the recipe is not resolved"
    is_bfloat16 = training.precision == "bf16" or (training.precision == "auto" and multiplies_bfloat16(device))
    size = training.micro_batch_size
    if size is None:
        kept = kept_bytes_per_image(model, recipe.data.image_size_px, autocast(is_bfloat16, device))
        size = fitting(training.batch_size, kept, available_bytes(device))
    steps = images // training.batch_size
    pays = device.type == "cuda" and steps >= STEPS_TO_COMPILE and recipe.execution == "fast" and can_compile(device)
    return settle(recipe, bfloat16=is_bfloat16, compile=pays, micro_batch_size=size)


def make_plan(recipe: Recipe) -> Plan:
    """The phases and rounds of a resolved recipe."""
    training = recipe.training
    rounds = training.rounds
    return Plan(
        phases=tuple(
            Stage(
                kind="phase",
                name=phase.name or phase.augmentation,
                augmentation=phase.augmentation,
                max_epochs=phase.max_epochs,
                learning_rate=_filled(phase.learning_rate),
                trainable=phase.trainable,
                min_improvement=phase.min_improvement,
                patience_epochs=phase.patience_epochs,
                batch_norm=phase.batch_norm or "train",
                method=phase.method,
                image_size_px=phase.image_size_px or 0,
                views=phase.views or 1,
            )
            for phase in training.phases
        ),
        rounds=Rounds(
            max_rounds=rounds.max_rounds,
            max_epochs=rounds.max_epochs,
            learning_rate_factor=rounds.learning_rate_factor,
            augmentation=rounds.augmentation or training.phases[-1].augmentation,
            min_improvement=rounds.min_improvement,
            patience_epochs=rounds.patience_epochs,
        ),
        max_epochs=training.max_epochs,
        best_by=training.best_by,
        ema_decay=training.ema_decay,
        soup_candidates=training.soup_candidates or 0,
        metric=training.metric,
    )


def _filled(learning_rate: float | None) -> float:
    assert learning_rate is not None, "the recipe is not resolved"
    return learning_rate


def _make_feed(
    recipe: Recipe,
    split: Split,
    paths: Paths,
    preprocessing: Preprocessing,
    device: torch.device,
    workers: int | None,
    advance: Callable[[int], None],
) -> Feed:
    """The training's batches, by the engine that the recipe names."""
    label_of = {name: index for index, name in enumerate(split.classes)}
    engine = recipe.augmentation.engine or "reference"
    feed = make_feed(
        [
            LabelledPhoto(paths[row.file], row.file, label_of[row.class_name], row.content_hash)
            for row in split.part("train")
        ],
        {name: Policy(**policy.model_dump()) for name, policy in recipe.augmentation.known().items()},
        preprocessing,
        engine=engine,
        cache_side_px=recipe.data.cache_side_px,
        seed=recipe.training.seed,
        batch_size=recipe.training.batch_size or BATCH_SIZE,
        max_megapixels=recipe.data.max_megapixels,
        device=device,
        workers=workers,
        advance=advance,
    )
    missed = recipe.execution == "fast" and engine == "reference" and not can_fuse(device)
    return replace(feed, remarks=(*feed.remarks, WITHOUT_OPENCV)) if missed else feed
