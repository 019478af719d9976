"""Fills in every field that a recipe leaves to a default, so that the run's recipe trains again as it is."""

from collections.abc import Sequence
from typing import Any

from fieldguide.recipe.schema import Augmentation, Data, Model, Phase, Plateau, Recipe, Split, Training

VALIDATION_SHARE = 0.15
BATCH_SIZE = 64
SOUP_CANDIDATES = 5
HEAD_WIDTH = {"linear": None, "bottleneck": 1024, "mlp": 512}
HEAD_DROPOUT = {"linear": 0.0, "bottleneck": 0.3, "mlp": 0.3}
IMBALANCE = {"accuracy": "none", "macro_accuracy": "logit_adjustment"}
CACHE_SIDE_FACTOR = 2
LEARNING_RATE, LAYER_DECAY = 1e-3, 1.0
PLANNED_LEARNING_RATE, PLANNED_LAYER_DECAY = 3e-4, 0.6  # of fine-tuning; EXPERIMENTS.md says how chosen
PROBE = "probe"
OF_A_PLAN = ("plan", "max_minutes", "phases", "rounds")  # what planning writes
MIXED_FROM_EPOCHS = 20  # of fine-tuning; EXPERIMENTS.md says what it brought
MIXED = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "mix_probability": 0.5}


def resolve(recipe: Recipe, pretrained_preprocessing: dict[str, Any], *, can_fuse: bool = True) -> Recipe:
    """The same recipe with nothing left open, but for what a plan is to choose where `training.plan` is auto.

    A plan chooses the image size and the batch size where they are null, phases and rounds; resolved again with a plan,
    nothing is open any more.

    Args:
        recipe: as it was read.
        pretrained_preprocessing: the backbone's own `image_size_px`, `crop_share`, `interpolation`,
            `mean` and `std`; they stand in for what the recipe leaves null.
        can_fuse: whether fused augmentations can be computed here; if not, null stands for the reference.
    """
    engine = recipe.augmentation.engine or ("fused" if recipe.execution == "fast" and can_fuse else "reference")
    if recipe.training.plan == "auto":
        pretrained_preprocessing = {**pretrained_preprocessing, "image_size_px": recipe.data.image_size_px}
    data = _data(recipe, pretrained_preprocessing, engine)
    return recipe.model_copy(
        update={
            "model": _model(recipe.model),
            "data": data,
            "split": _split(recipe),
            "augmentation": _augmentation(recipe, engine),
            "training": _training(recipe, data.image_size_px),
        }
    )


def _model(model: Model) -> Model:
    dropout = HEAD_DROPOUT[model.head] if model.head_dropout is None else model.head_dropout
    return model.model_copy(update={"head_width": model.head_width or HEAD_WIDTH[model.head], "head_dropout": dropout})


def _data(recipe: Recipe, pretrained_preprocessing: dict[str, Any], engine: str) -> Data:
    data = recipe.data
    filled = {key: value for key, value in pretrained_preprocessing.items() if getattr(data, key) is None}
    size = data.image_size_px or pretrained_preprocessing["image_size_px"]
    largest = size and max(size, largest_size_px(recipe)[1])
    return data.model_copy(update=filled | {"cache_side_px": _cache_side(data.cache_side_px, largest, engine)})


def largest_size_px(recipe: Recipe) -> tuple[str, int]:
    """The largest image size that a recipe names, and the field that does; 0 where all are left open."""
    named = {"data.image_size_px": recipe.data.image_size_px or 0}
    named |= {f"training.phases.{i}.image_size_px": p.image_size_px or 0 for i, p in enumerate(recipe.training.phases)}
    return max(named.items(), key=lambda item: item[1])


def _split(recipe: Recipe) -> Split:
    split = recipe.split
    return split.model_copy(
        update={
            "seed": _default(split.seed, recipe.training.seed, True),
            "validation_share": _default(split.validation_share, VALIDATION_SHARE, split.folds is None),
        }
    )


def _augmentation(recipe: Recipe, engine: str) -> Augmentation:
    own = recipe.augmentation
    plans = recipe.training.plan == "auto"  # then the phases, which name policies, are still to come
    policies = own.policies if plans else {name: own.known()[name] for name in _named_policies(recipe)}
    return own.model_copy(update={"engine": engine, "policies": policies})


def _training(recipe: Recipe, size: int | None) -> Training:
    training, plans = recipe.training, recipe.training.plan == "auto"
    pretrained = plans and recipe.model.weights != "none"
    learning_rate = training.learning_rate or (PLANNED_LEARNING_RATE if pretrained else LEARNING_RATE)
    update: dict[str, Any] = {
        "batch_size": training.batch_size or (None if plans else BATCH_SIZE),
        "learning_rate": learning_rate,
        "layer_decay": training.layer_decay or (PLANNED_LAYER_DECAY if pretrained else LAYER_DECAY),
        "precision": "fp32" if recipe.execution == "exact" else training.precision,
        "momentum": _default(training.momentum, 0.9, training.optimizer == "sgd"),
        "mixup_alpha": _default(training.mixup_alpha, 0.0, not plans),
        "cutmix_alpha": _default(training.cutmix_alpha, 0.0, not plans),
        "mix_probability": _default(training.mix_probability, 1.0, bool(training.mixup_alpha or training.cutmix_alpha)),
        "plateau": _default(training.plateau, Plateau(), training.schedule == "plateau"),
        "imbalance": training.imbalance or IMBALANCE[training.metric],
        "warmup_epochs": _default(training.warmup_epochs, 0.0, training.schedule == "cosine"),
        "soup_candidates": _default(training.soup_candidates, SOUP_CANDIDATES, training.soup == "greedy"),
    }
    if not plans:
        assert size is not None, "without a plan the backbone's own size stands in"
        rounds = training.rounds
        augmentation = rounds.augmentation or training.phases[-1].augmentation
        update["phases"] = tuple(_phase(phase, learning_rate, size) for phase in training.phases)
        update["rounds"] = rounds.model_copy(update={"augmentation": augmentation})
    return training.model_copy(update=update)


def _phase(phase: Phase, learning_rate: float, size: int) -> Phase:
    """A phase with nothing left open; a probe has one epoch of the head, and no image size of its own is the data's."""
    common = {
        "learning_rate": phase.learning_rate or learning_rate,
        "image_size_px": phase.image_size_px or size,
    }
    if phase.method == PROBE:
        own = {
            "name": phase.name or PROBE,
            "max_epochs": 1,
            "trainable": "head",
            "views": phase.views or 1,
            "batch_norm": phase.batch_norm or "frozen",
        }
    else:
        own = {"name": phase.name or phase.augmentation, "batch_norm": phase.batch_norm or "train"}
    return phase.model_copy(update=common | own)


def _cache_side(side: int | None, size: int | None, engine: str) -> int | None:
    return _default(side, CACHE_SIDE_FACTOR * size, engine == "fused") if size else side


def settle(recipe: Recipe, *, bfloat16: bool, compile: bool, micro_batch_size: int) -> Recipe:
    """A resolved recipe with every `auto` replaced by what this machine made of it.

    Args:
        recipe: of `resolve`.
        bfloat16: whether to compute in it.
        compile: whether compiling pays.
        micro_batch_size: what fits, at most the batch.
    """
    training = recipe.training
    update = {
        "micro_batch_size": training.micro_batch_size or micro_batch_size,
        "precision": training.precision if training.precision != "auto" else "bf16" if bfloat16 else "fp32",
        "compile": training.compile if training.compile != "auto" else "always" if compile else "never",
    }
    return recipe.model_copy(update={"training": training.model_copy(update=update)})


def settled_as(recipe: Recipe, other: Recipe) -> Recipe:
    """The same recipe with what another one made of its `auto`, its plan included."""
    names = ["micro_batch_size", "precision", "compile"]
    update = {name: getattr(other.training, name) for name in names if getattr(recipe.training, name) in (None, "auto")}
    if recipe.training.plan != "auto":
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=update)})
    update |= {name: getattr(other.training, name) for name in OF_A_PLAN}
    update |= planned_mixing(recipe, other.training.phases)
    update["batch_size"] = recipe.training.batch_size or other.training.batch_size
    sizes = {
        name: getattr(recipe.data, name) or getattr(other.data, name) for name in ("image_size_px", "cache_side_px")
    }
    return recipe.model_copy(
        update={
            "training": recipe.training.model_copy(update=update),
            "data": recipe.data.model_copy(update=sizes),
            "augmentation": recipe.augmentation.model_copy(update={"policies": other.augmentation.policies}),
        }
    )


def planned_mixing(recipe: Recipe, phases: Sequence[Phase]) -> dict[str, float]:
    """CutMix and MixUp where a plan shows each photo so often that it would be learnt by heart.

    Args:
        recipe: resolved; one that has an alpha, be it 0, keeps it, and the other is 0.
        phases: that were planned.
    """
    training, epochs = recipe.training, sum(phase.max_epochs for phase in phases if phase.method == "gradient")
    if training.mixup_alpha is not None or training.cutmix_alpha is not None:
        return {"mixup_alpha": training.mixup_alpha or 0.0, "cutmix_alpha": training.cutmix_alpha or 0.0}
    mixes = recipe.model.weights != "none" and epochs >= MIXED_FROM_EPOCHS
    return MIXED if mixes else {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}


def _default(value: Any, otherwise: Any, applies: bool) -> Any:
    return otherwise if value is None and applies else value


def _named_policies(recipe: Recipe) -> list[str]:
    names = [phase.augmentation for phase in recipe.training.phases]
    if recipe.training.rounds.augmentation is not None:
        names.append(recipe.training.rounds.augmentation)
    return list(dict.fromkeys(names))
