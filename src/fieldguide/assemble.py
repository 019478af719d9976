"""A recipe and a split to live objects: network, plan, batches, evaluation. Nowhere else are the rooms joined."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fieldguide.data.augment import Policy
from fieldguide.data.batches import Batch, KeptInputs, LabelledPhoto, TrainingBatches
from fieldguide.data.decode import read_photo
from fieldguide.data.feed import NO_OPENCV, WITHOUT_OPENCV, Feed, can_fuse, make_feed
from fieldguide.data.preprocess import Preprocessing, center, normalize, pixels, resized_side
from fieldguide.data.split import Row, Split
from fieldguide.data.steady import steady
from fieldguide.errors import PhotosError, UsageError
from fieldguide.model import backbone as backbones
from fieldguide.model.batch_norm import as_built, load_as_built, set_batch_norm
from fieldguide.model.bundle import Description
from fieldguide.model.classifier import (
    Architecture,
    Classifier,
    count_parameters,
    demand_image_size,
    make_classifier,
    make_on_meta,
    set_trainable,
    trainable_names,
)
from fieldguide.model.weights import LoadedWeights, load_weights, problem_with_weights, what_pretrained
from fieldguide.recipe.resolve import BATCH_SIZE, resolve, settle
from fieldguide.recipe.rules import verdict
from fieldguide.recipe.schema import Recipe
from fieldguide.training.loop import Tools
from fieldguide.training.memory import fitting, kept_bytes_per_image
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.plan import Plan, Rounds, Stage
from fieldguide.training.schedule import Constant, Cosine, Plateau, Schedule
from fieldguide.training.state import Scores
from fieldguide.training.step import MicroBatch, StepSettings
from fieldguide.world import available_bytes, can_compile, multiplies_bfloat16, repeatable

Paths = dict[str, Path]
STEPS_TO_COMPILE = 2_000  # an estimate of where compiling pays on a GPU; it has not been measured on one yet
MOST_VARIANTS = 64  # sizes of batches and micro-batches, in training and in evaluation
CPU = torch.device("cpu")
NO_COMPILER = (
    "training.compile: always needs a C++ compiler, and on a GPU Triton and a C compiler, which are not found; install "
    "them, or choose never"
)
NO_BFLOAT16 = "training.precision: {} does not multiply bf16 natively; choose auto or fp32"


@dataclass(frozen=True)
class DeviceBatch:
    """A batch ready for the network: float32 normalised images and labels on the device."""

    images: torch.Tensor
    labels: torch.Tensor
    files: tuple[str, ...]


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
    """

    recipe: Recipe
    model: Classifier
    plan: Plan
    tools: Tools
    description: Description
    parameters: dict[str, int]
    weights: LoadedWeights
    feed: Feed


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
    assert recipe.data.image_size_px is not None, "the recipe is not resolved"
    demand_image_size(model, recipe.data.image_size_px, recipe.model.backbone)
    for phase in recipe.training.phases:
        trainable_names(model, phase.trainable)
    found = verdict(
        recipe, count_parameters(model)["total"], what_pretrained(recipe.model.weights, recipe.model.backbone)
    )
    if not found["kept"]:
        raise UsageError(*found["broken"])
    return found


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """The preprocessing of a resolved recipe."""
    data = recipe.data
    assert data.image_size_px and data.crop_share and data.interpolation and data.mean and data.std, "not resolved"
    return Preprocessing(
        data.image_size_px, resized_side(data.image_size_px, data.crop_share), data.interpolation, data.mean, data.std
    )


def assemble(
    recipe: Recipe,
    split: Split,
    paths: Paths,
    device: torch.device,
    workers: int | None = None,
    loaded: LoadedWeights | None = None,
    tell: Callable[[str], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Assembled:
    """Builds all that a training needs.

    Args:
        recipe: resolved.
        split: which photo is in which part.
        paths: where each file of the split lies.
        device: where to train.
        workers: processes or threads that load photos; None: chosen by the machine. Results do not depend on it.
        loaded: where a training goes on, what is known of its first weights, which are not read again; None: read them.
        tell: takes a sentence about what happened to the processes that load photos.
        advance: called with how many more training photos the cache has.

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
    preprocessing = preprocessing_of(recipe)
    model = model.to(device)
    if recipe.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    plan = make_plan(recipe)
    if any(phase.batch_norm == "folded" for phase in plan.phases):  # refused now, and not when that phase begins
        set_batch_norm(copy.deepcopy(model), "folded", preprocessing.image_size_px)
    feed = _make_feed(recipe, split, paths, preprocessing, device, workers, advance)
    # after the feed, for photos that lie in a GPU's memory leave less of it
    recipe = _settled(recipe, model, plan.most_epochs() * len(split.part("train")), device)
    return Assembled(
        recipe=recipe,
        model=model,
        plan=plan,
        tools=_make_tools(recipe, split, paths, preprocessing, device, feed, tell),
        description=Description(described, tuple(classes), preprocessing.to_dict(), weights.pretrained_on),
        parameters=count_parameters(model),
        weights=weights,
        feed=feed,
    )


def _settled(recipe: Recipe, model: Classifier, images: int, device: torch.device) -> Recipe:
    """The recipe with every `auto` decided: by the device, the number of images in all, and the memory."""
    training = recipe.training
    assert training.batch_size and recipe.data.image_size_px, "the recipe is not resolved"
    is_bfloat16 = training.precision == "bf16" or (training.precision == "auto" and multiplies_bfloat16(device))
    size = training.micro_batch_size
    if size is None:
        kept = kept_bytes_per_image(model, recipe.data.image_size_px, _autocast(is_bfloat16, device))
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
                learning_rate=phase.learning_rate or training.learning_rate,
                trainable=phase.trainable,
                min_improvement=phase.min_improvement,
                patience_epochs=phase.patience_epochs,
                batch_norm=phase.batch_norm or "train",
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
    )


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


def _make_tools(
    recipe: Recipe,
    split: Split,
    paths: Paths,
    preprocessing: Preprocessing,
    device: torch.device,
    feed: Feed,
    tell: Callable[[str], None],
) -> Tools:
    training = recipe.training
    label_of = {name: index for index, name in enumerate(split.classes)}
    assert training.batch_size and training.micro_batch_size, "the recipe is not settled"
    precision = _autocast(training.precision == "bf16", device)

    def epoch_of(augmentation: str, epoch: int, first_step: int) -> Iterator[Batch]:
        if isinstance(feed.batches, TrainingBatches):  # processes, and a process may die
            return steady(feed.batches, augmentation, epoch, first_step, tell)
        return feed.batches.epoch(augmentation, epoch, first_step)

    def on_device(augmentation: str, epoch: int, first_step: int) -> Iterator[DeviceBatch]:
        for batch in feed.waiting.over(epoch_of(augmentation, epoch, first_step)):
            images = _to_device(batch.images, preprocessing, recipe, device)
            yield DeviceBatch(images, batch.labels.to(device, non_blocking=True), batch.files)

    def seed_step(epoch: int, step: int) -> None:
        torch.manual_seed(((training.seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63)

    return Tools(
        batches=on_device,
        steps_per_epoch=feed.batches.steps_per_epoch,
        evaluate=_make_evaluation(recipe, split.part("val"), label_of, paths, preprocessing, device, precision),
        make_optimizer=lambda model, rate: make_optimizer(
            model,
            rate,
            kind=training.optimizer,
            momentum=training.momentum or 0.0,
            weight_decay=training.weight_decay,
            fused=recipe.execution == "fast",
        ),
        make_schedule=_make_schedule(recipe),
        prepare=_make_prepare(recipe),
        weights=_weights,
        load=_load,
        step=StepSettings(
            training.label_smoothing, training.gradient_clip_norm, precision, MicroBatch(training.micro_batch_size)
        ),
        seed_step=seed_step,
    )


def _make_prepare(recipe: Recipe) -> Callable[[nn.Module, Stage], None]:
    size, compiles = recipe.data.image_size_px, recipe.training.compile == "always"
    assert size is not None, "the recipe is not resolved"

    def prepare(model: nn.Module, stage: Stage) -> None:
        assert isinstance(model, Classifier)
        set_batch_norm(model, stage.batch_norm, size)
        set_trainable(model, stage.trainable)
        if compiles:
            _compile(model)

    return prepare


def _compile(model: nn.Module) -> None:
    """Each stage anew and with room for all sizes of batches: past its limit torch goes on uncompiled, in silence."""
    torch.compiler.reset()
    torch._dynamo.config.cache_size_limit = MOST_VARIANTS
    model.compile(dynamic=False)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    assert isinstance(model, Classifier)
    return as_built(model)


def _load(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    assert isinstance(model, Classifier)
    load_as_built(model, weights)


def _autocast(is_bfloat16: bool, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[object]]:
    return (lambda: torch.autocast(device.type, dtype=torch.bfloat16)) if is_bfloat16 else contextlib.nullcontext


def _to_device(
    images: torch.Tensor, preprocessing: Preprocessing, recipe: Recipe, device: torch.device
) -> torch.Tensor:
    """(batch, 3, height, width) uint8 to float32, normalised."""
    ready = normalize(images.to(device), preprocessing)
    return ready.contiguous(memory_format=torch.channels_last) if recipe.execution == "fast" else ready


def _make_schedule(recipe: Recipe) -> Callable[[torch.optim.Optimizer, Stage, int], Schedule]:
    training = recipe.training

    def make(optimizer: torch.optim.Optimizer, stage: Stage, steps_per_epoch: int) -> Schedule:
        if training.schedule == "plateau":
            assert training.plateau is not None, "the recipe is not resolved"
            plateau = training.plateau
            return Plateau(optimizer, plateau.metric, plateau.factor, plateau.patience_epochs)
        if training.schedule == "cosine":
            return Cosine(optimizer, stage, steps_per_epoch, training.warmup_epochs or 0.0)
        return Constant()

    return make


def _make_evaluation(
    recipe: Recipe,
    rows: list[Row],
    label_of: dict[str, int],
    paths: Paths,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Callable[[], contextlib.AbstractContextManager[object]],
) -> Callable[[nn.Module], Scores]:
    def load(row: Row) -> torch.Tensor:
        return pixels(center(read_photo(paths[row.file], recipe.data.max_megapixels), preprocessing))

    every_input = KeptInputs(rows, load, recipe.training.batch_size or BATCH_SIZE)

    def evaluate(model: nn.Module) -> Scores:
        model.eval()
        loss_sum, correct = 0.0, 0
        with torch.inference_mode(), precision():
            for inputs in every_input:
                for row, reason in zip(inputs.sources, inputs.reasons, strict=True):
                    if reason:
                        raise PhotosError(f"{row.file} {reason}; it could be read when the training began")
                labels = torch.tensor([label_of[row.class_name] for row in inputs.sources], device=device)
                logits = model(_to_device(inputs.images, preprocessing, recipe, device)).float()
                loss_sum += float(functional.cross_entropy(logits, labels, reduction="sum"))
                correct += int((logits.argmax(dim=1) == labels).sum())
        return Scores(len(rows), loss_sum, correct)

    return evaluate
