"""A recipe and a split to live objects: network, plan, batches, evaluation. Nowhere else are the rooms joined."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from fieldguide.assemble.automatic import Outlook as Outlook
from fieldguide.assemble.automatic import Planner
from fieldguide.assemble.described import CPU as CPU
from fieldguide.assemble.described import NO_COMPILER
from fieldguide.assemble.described import architecture as architecture
from fieldguide.assemble.described import demand_no_contradiction as demand_no_contradiction
from fieldguide.assemble.described import hold_against_rules as hold_against_rules
from fieldguide.assemble.described import preprocessing_of as preprocessing_of
from fieldguide.assemble.described import problems_with_machine as problems_with_machine
from fieldguide.assemble.described import problems_with_model as problems_with_model
from fieldguide.assemble.described import resolved as resolved
from fieldguide.assemble.described import served_preprocessing_of as served_preprocessing_of
from fieldguide.assemble.described import with_backbone as with_backbone
from fieldguide.assemble.tools import Paths, autocast, make_tools
from fieldguide.data.augment.reference import Policy
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.feed import WITHOUT_OPENCV, Feed, can_fuse, make_feed
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.split.partition import Split
from fieldguide.errors import UsageError
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.bundle import Description
from fieldguide.model.classifier import Architecture, Classifier, count_parameters, make_classifier
from fieldguide.model.weights import LoadedWeights, load_weights
from fieldguide.recipe.resolve import BATCH_SIZE, largest_size_px, settle
from fieldguide.recipe.schema import Recipe
from fieldguide.training.memory import fitting, kept_bytes_per_image
from fieldguide.training.plan import Plan, Rounds, Stage
from fieldguide.training.tools import Tools
from fieldguide.world import available_bytes, can_compile, multiplies_bfloat16, repeatable

STEPS_TO_COMPILE = 2_000  # an estimate of where compiling pays on a GPU; it has not been measured on one yet
UNBOUND = Outlook()


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
    model, weights = _network(recipe, described, classes, device, loaded)
    images, validation_images = len(split.part("train")), len(split.part("val"))
    planner = Planner(recipe, model, device, images, validation_images) if recipe.training.plan == "auto" else None
    if planner is not None:
        recipe = resolved(planner.with_sizes(outlook), device)
        demand_no_contradiction(recipe)
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
        after = judge.reserve_seconds(judge.forward(preprocessing.image_size_px))
        plan = replace(plan, max_seconds=max(0.0, outlook.seconds_left() - after))
    # after the feed, for photos that lie in a GPU's memory leave less of it
    recipe = _settled(recipe, model, plan.most_epochs() * images, device)
    demand_no_contradiction(recipe)
    return Assembled(
        recipe=recipe,
        model=model,
        plan=plan,
        tools=make_tools(recipe, split, paths, preprocessing, device, feed, tell),
        description=Description(
            described,
            tuple(classes),
            served_preprocessing_of(recipe).to_dict(),
            weights.pretrained_on,
            max_megapixels=recipe.data.max_megapixels,
        ),
        parameters=count_parameters(model),
        weights=weights,
        feed=feed,
        told=told,
    )


def _network(
    recipe: Recipe, described: Architecture, classes: Sequence[str], device: torch.device, loaded: LoadedWeights | None
) -> tuple[Classifier, LoadedWeights]:
    """With its first weights, on the device, and where these came from."""
    with repeatable(recipe.training.seed):
        model = make_classifier(described)
    weights = loaded or load_weights(model, recipe.model.weights, recipe.model.backbone, classes)
    model = model.to(device)
    if recipe.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    return model, weights


def _settled(recipe: Recipe, model: Classifier, images: int, device: torch.device) -> Recipe:
    """The recipe with every `auto` decided: by the device, the number of images in all, and the memory."""
    training = recipe.training
    assert training.batch_size and recipe.data.image_size_px, "the recipe is not resolved"
    is_bfloat16 = training.precision == "bf16" or (training.precision == "auto" and multiplies_bfloat16(device))
    size = training.micro_batch_size
    if size is None:
        kept = kept_bytes_per_image(model, largest_size_px(recipe)[1], autocast(is_bfloat16, device))
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
