"""The training loop's tools, made from a recipe: batches on the device, evaluation, optimiser, schedule."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fieldguide.assemble.compiling import Graphs
from fieldguide.assemble.probing import make_probe
from fieldguide.assemble.validating import at_once, make_evaluation, to_device
from fieldguide.data.batch.batches import Batch
from fieldguide.data.batch.feed import Feed
from fieldguide.data.batch.order import WHOLE, Order, Share
from fieldguide.data.batch.steady import steady
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.data.read.photo_pixels import ToJudge
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.split.partition import Split
from fieldguide.model.batch_norm import as_built, load_as_built, set_batch_norm
from fieldguide.model.classifier import Classifier, set_trainable, stage_names
from fieldguide.model.synced_batch_norm import synchronize
from fieldguide.recipe import schema
from fieldguide.recipe.lives import ResolvedRecipe, SettledRecipe
from fieldguide.training.mixing import Mixing
from fieldguide.training.optimizer import MakeOptimizer, make_optimizer
from fieldguide.training.parameter_groups import Rates, parameter_groups
from fieldguide.training.plan import Stage
from fieldguide.training.scaling import GradientScaling
from fieldguide.training.schedule import Constant, Cosine, Plateau, Schedule
from fieldguide.training.step import MicroBatch, Precision, StepSettings
from fieldguide.training.tools import Batches, Tools
from fieldguide.world.processes import Team

Paths = dict[str, Path]
REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}
OTHER_SEED = 0x9E3779B97F4A7C15  # between the processes' dropout; the first has that of a training by one process


@dataclass(frozen=True)
class DeviceBatch:
    """A batch ready for the network: float32 normalised images and labels on the device."""

    images: torch.Tensor
    labels: torch.Tensor
    files: tuple[str, ...]


def make_tools(
    recipe: SettledRecipe,
    split: Split,
    to_judge: ToJudge,
    preprocessing: Preprocessing,
    device: torch.device,
    feed: Feed,
    tell: Callable[[str], None],
    team: Team | None = None,
    graphs: Graphs | None = None,
) -> Tools:
    """Batches, evaluation, optimiser and schedule of a recipe; arguments as of `assemble`; `graphs`: if it compiles."""
    training, label_of = recipe.training, {name: index for index, name in enumerate(split.classes)}
    precision = precision_context(training.precision, device)
    share = WHOLE if team is None else Share(team.rank, team.size, bool(training.mix_probability))
    batches = _make_batches(recipe, preprocessing, device, feed, tell, share)
    mixing = Mixing(training.mixup_alpha, training.cutmix_alpha, training.mix_probability or 0.0, training.seed)
    return Tools(
        batches=batches,
        steps_per_epoch=feed.batches.steps_per_epoch,
        evaluate=make_evaluation(recipe, split, to_judge, preprocessing, device, precision, team),
        make_optimizer=make_optimizer_of(recipe),
        make_schedule=_make_schedule(recipe),
        prepare=_make_prepare(recipe, team, graphs),
        weights=_weights,
        load=_load,
        step=StepSettings(
            training.label_smoothing,
            training.gradient_clip_norm,
            precision,
            MicroBatch(training.micro_batch_size) if graphs is None else graphs.micro_batch,
            logit_adjustment(split).to(device) if training.imbalance == "logit_adjustment" else None,
            scaling=GradientScaling(device.type) if training.precision == "fp16" else None,
            team=team,
        ),
        seed_step=_make_seed_step(training.seed, 0 if team is None else team.rank),
        probe=make_probe(
            batches,
            _make_features_of(at_once(recipe), precision),
            feed.batches.steps_per_epoch,
            len(label_of),
            training.seed,
            {row.file: row.group for row in split.part("train") if row.group},
            logit_adjustment(split) if training.imbalance != "none" and _probe_is_all(recipe) else None,
        ),
        draw_mix=mixing.draw,
    )


def _make_batches(
    recipe: SettledRecipe,
    preprocessing: Preprocessing,
    device: torch.device,
    feed: Feed,
    tell: Callable[[str], None],
    share: Share,
) -> Batches:
    def epoch_of(stage: Stage, epoch: int, first_step: int) -> Iterator[Batch]:
        batches = feed.of_size(stage.image_size_px)
        drawn: Order = "balanced" if recipe.training.imbalance == "balanced_sampling" else "shuffled"
        taken = share
        if stage.method == "probe":  # it may be cut short; and none may come twice, since it holds out photos
            drawn, taken = "stratified", WHOLE
        if isinstance(batches, TrainingBatches):  # these are processes, which may die
            return steady(batches, stage.augmentation, epoch, first_step, tell, order=drawn, share=taken)
        return batches.epoch(stage.augmentation, epoch, first_step, order=drawn, share=taken)

    def on_device(stage: Stage, epoch: int, first_step: int) -> Iterator[DeviceBatch]:
        for batch in feed.waiting.over(epoch_of(stage, epoch, first_step)):
            images = to_device(batch.images, preprocessing, recipe, device)
            yield DeviceBatch(images, batch.labels.to(device, non_blocking=True), batch.files)

    return on_device


def _make_seed_step(seed: int, rank: int) -> Callable[[int, int], None]:
    def seed_step(epoch: int, step: int) -> None:
        torch.manual_seed((((seed * 1_000_003 + epoch) * 1_000_003 + step) + rank * OTHER_SEED) % 2**63)

    return seed_step


def _make_features_of(
    at_once: int, precision: Precision
) -> Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], torch.Tensor]:
    def features_of(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        pieces = images.tensor_split(list(range(at_once, len(images), at_once)))
        with torch.inference_mode(), precision():
            return torch.cat([network(some).float().cpu() for some in pieces])

    return features_of


def _probe_is_all(recipe: SettledRecipe) -> bool:
    """Whether no step follows a probe. If steps follow, a head that knows the prior is the better start: measured."""
    training = recipe.training
    return all(phase.method == "probe" for phase in training.phases) and not training.rounds.max_rounds


def make_optimizer_of(recipe: ResolvedRecipe) -> MakeOptimizer:
    """Makes the recipe's optimiser."""
    training = recipe.training
    rates = Rates(training.layer_decay, training.head_learning_rate_factor, training.weight_decay_on == "all")

    def make(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        assert isinstance(model, Classifier)
        return make_optimizer(
            model,
            learning_rate,
            kind=training.optimizer,
            momentum=training.momentum or 0.0,
            weight_decay=training.weight_decay,
            fused=True if recipe.execution == "fast" else None,
            groups=parameter_groups(model, stage_names(model) if rates.layer_decay < 1 else (), rates),
        )

    return make


def logit_adjustment(split: Split) -> torch.Tensor:
    """(classes,) float32: the logarithm of each class's share of the training photos; added to the loss's logits.

    Menon et al. 2021, "Long-tail learning via logit adjustment", arXiv 2007.07314, section 4.2, with tau 1: the
    network then learns logits for classes that are equally frequent.
    """
    counts = Counter(row.class_name for row in split.part("train"))
    images = torch.tensor([counts[name] for name in split.classes], dtype=torch.float32)
    return torch.log(images / images.sum())


def _make_prepare(
    recipe: SettledRecipe, team: Team | None, graphs: Graphs | None
) -> Callable[[nn.Module, Stage], None]:
    size = recipe.data.image_size_px

    def prepare(model: nn.Module, stage: Stage) -> None:
        assert isinstance(model, Classifier)
        set_batch_norm(model, stage.batch_norm, size)
        set_trainable(model, stage.trainable)
        model.zero_grad()  # else clipping would count gradients of layers that no longer learn
        if team is not None:
            team.meets_in_layers = synchronize(model, team.every_in_step)
        if graphs is not None and stage.method != "probe":
            graphs.begin(model)

    return prepare


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    assert isinstance(model, Classifier)
    return as_built(model)


def _load(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    assert isinstance(model, Classifier)
    load_as_built(model, weights)


def precision_context(precision: str, device: torch.device) -> Precision:
    """What a forward pass in `bf16`, `fp16` or `fp32` runs under."""
    if precision == "fp32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype=REDUCED[precision])


def _make_schedule(recipe: SettledRecipe) -> Callable[[torch.optim.Optimizer, Stage, int], Schedule]:
    training = recipe.training

    def make(optimizer: torch.optim.Optimizer, stage: Stage, steps_per_epoch: int) -> Schedule:
        if training.schedule == "plateau":
            plateau = training.plateau or schema.Plateau()
            return Plateau(optimizer, plateau.metric, plateau.factor, plateau.patience_epochs, accuracy=training.metric)
        if training.schedule == "cosine":
            return Cosine(optimizer, stage, steps_per_epoch, training.warmup_epochs or 0.0)
        return Constant()

    return make
