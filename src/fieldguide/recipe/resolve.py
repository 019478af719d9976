"""Fills in every field that a recipe leaves to a default, so that the run's recipe trains again as it is."""

from typing import Any

from fieldguide.recipe.schema import Plateau, Recipe

VALIDATION_SHARE = 0.15
BATCH_SIZE = 64
HEAD_WIDTH = {"linear": None, "bottleneck": 1024, "mlp": 512}
HEAD_DROPOUT = {"linear": 0.0, "bottleneck": 0.3, "mlp": 0.3}


CACHE_SIDE_FACTOR = 2


def resolve(recipe: Recipe, pretrained_preprocessing: dict[str, Any], *, can_fuse: bool = True) -> Recipe:
    """The same recipe with nothing left open.

    Args:
        recipe: as it was read.
        pretrained_preprocessing: the backbone's own `image_size_px`, `crop_share`, `interpolation`,
            `mean` and `std`; they stand in for what the recipe leaves null.
        can_fuse: whether fused augmentations can be computed here; if not, null stands for the reference.
    """
    model, data, training = recipe.model, recipe.data, recipe.training
    last_phase = training.phases[-1]
    engine = recipe.augmentation.engine or ("fused" if recipe.execution == "fast" and can_fuse else "reference")
    size = data.image_size_px or pretrained_preprocessing["image_size_px"]
    return recipe.model_copy(
        update={
            "model": model.model_copy(
                update={
                    "head_width": model.head_width or HEAD_WIDTH[model.head],
                    "head_dropout": HEAD_DROPOUT[model.head] if model.head_dropout is None else model.head_dropout,
                }
            ),
            "data": data.model_copy(
                update={key: value for key, value in pretrained_preprocessing.items() if getattr(data, key) is None}
                | {"cache_side_px": _default(data.cache_side_px, CACHE_SIDE_FACTOR * size, engine == "fused")}
            ),
            "split": recipe.split.model_copy(
                update={
                    "seed": _default(recipe.split.seed, training.seed, True),
                    "validation_share": _default(
                        recipe.split.validation_share, VALIDATION_SHARE, recipe.split.folds is None
                    ),
                }
            ),
            "augmentation": recipe.augmentation.model_copy(
                update={
                    "engine": engine,
                    "policies": {name: recipe.augmentation.known()[name] for name in _named_policies(recipe)},
                }
            ),
            "training": training.model_copy(
                update={
                    "batch_size": training.batch_size or BATCH_SIZE,
                    "precision": "fp32" if recipe.execution == "exact" else training.precision,
                    "momentum": _default(training.momentum, 0.9, training.optimizer == "sgd"),
                    "plateau": _default(training.plateau, Plateau(), training.schedule == "plateau"),
                    "warmup_epochs": _default(training.warmup_epochs, 0.0, training.schedule == "cosine"),
                    "phases": tuple(
                        phase.model_copy(
                            update={
                                "name": phase.name or phase.augmentation,
                                "learning_rate": phase.learning_rate or training.learning_rate,
                                "batch_norm": phase.batch_norm or "train",
                            }
                        )
                        for phase in training.phases
                    ),
                    "rounds": training.rounds.model_copy(
                        update={"augmentation": training.rounds.augmentation or last_phase.augmentation}
                    ),
                }
            ),
        }
    )


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
    """The same recipe with what another one made of its `auto`."""
    names = ("micro_batch_size", "precision", "compile")
    update = {name: getattr(other.training, name) for name in names if getattr(recipe.training, name) in (None, "auto")}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=update)})


def _default(value: Any, otherwise: Any, applies: bool) -> Any:
    return otherwise if value is None and applies else value


def _named_policies(recipe: Recipe) -> list[str]:
    names = [phase.augmentation for phase in recipe.training.phases]
    if recipe.training.rounds.augmentation is not None:
        names.append(recipe.training.rounds.augmentation)
    return list(dict.fromkeys(names))
