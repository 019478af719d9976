"""From a recipe as it was read, step by step, to one with nothing left open; the types are in `lives.py`."""

from collections.abc import Sequence
from typing import Any, TypeVar

from fieldguide.recipe import lives
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SettledRecipe, SizedRecipe
from fieldguide.recipe.schema import Data, Model, Plateau, Recipe
from fieldguide.settings import ITSELF, Phase, ResolvedPhase, ResolvedRounds, Rounds, Section

Kind = TypeVar("Kind", bound=Section)

VALIDATION_SHARE = 0.15
BATCH_SIZE = 64
SOUP_CANDIDATES = 5
HEAD_WIDTH = {"linear": None, "bottleneck": 1024, "mlp": 512}
HEAD_DROPOUT = {"linear": 0.0, "bottleneck": 0.3, "mlp": 0.3}
IMBALANCE = {"accuracy": "none", "macro_accuracy": "logit_adjustment"}
CACHE_SIDE_FACTOR = 2
LEARNING_RATE, LAYER_DECAY = 1e-3, 1.0
PLANNED_LEARNING_RATE, PLANNED_LAYER_DECAY = 3e-4, 0.6  # of fine-tuning; EXPERIMENTS.md says how chosen
GENTLER = 1 / 3  # times the rate, for the few epochs of `GENTLE`
PROBE, GENTLE = "probe", "gentle"
SMOOTHING = 0.1  # of a plan's labels, but not in its few epochs of `GENTLE`
OF_A_MACHINE = ("micro_batch_size", "precision", "compile")
MIXED_FROM_EPOCHS = 20  # of fine-tuning; EXPERIMENTS.md says what it brought
MIXED = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "mix_probability": 0.5}


def resolve(
    recipe: Recipe, pretrained_preprocessing: dict[str, Any], *, can_fuse: bool = True, can_join: bool = False
) -> ResolvedRecipe:
    """Fills in every default. A recipe without `training.plan: auto` comes back as a `PlannedRecipe`.

    Args:
        pretrained_preprocessing: the backbone's own `image_size_px`, `crop_share`, `interpolation`, `mean` and `std`,
            used where the recipe says null.
        can_fuse: whether this machine can compute fused augmentations; if not, null means reference.
        can_join: whether features of several stages of the backbone can be joined, for `model.features: auto`.
    """
    engine = recipe.augmentation.engine or ("fused" if recipe.execution == "fast" and can_fuse else "reference")
    resolved = _as(
        ResolvedRecipe,
        recipe,
        model=_model(recipe.model, can_join=can_join),
        data=_data(recipe.data, pretrained_preprocessing),
        split=_split(recipe),
        augmentation=_as(lives.ResolvedAugmentation, recipe.augmentation, engine=engine),
        training=_training(recipe),
    )
    if recipe.training.plan == "auto":
        return resolved
    size = recipe.data.image_size_px or pretrained_preprocessing["image_size_px"]
    sized = with_sizes(resolved, size, recipe.training.batch_size or BATCH_SIZE)
    return with_plan(sized, sized.training.phases, sized.training.rounds)


def with_sizes(recipe: ResolvedRecipe, image_size_px: int, batch_size: int, *, caches: bool = True) -> SizedRecipe:
    """The recipe with these sizes, and with the cache's size if that is open (none unless it `caches`)."""
    side = recipe.data.cache_side_px
    if side is None and recipe.augmentation.engine == "fused":
        side = CACHE_SIDE_FACTOR * max(image_size_px, largest_size_px(recipe)[1]) if caches else 0
    return _as(
        SizedRecipe,
        recipe,
        data=_as(lives.SizedData, recipe.data, image_size_px=image_size_px, cache_side_px=side),
        training=_as(lives.SizedTraining, recipe.training, batch_size=batch_size),
    )


def with_plan(
    recipe: SizedRecipe,
    phases: Sequence[Phase],
    rounds: Rounds,
    validation_photos: int | None = None,
) -> PlannedRecipe:
    """The recipe with these phases and rounds, only the augmentations they use, and no minutes: the plan is made.

    `validation_photos` are taken where the recipe leaves them open.
    """
    training, size = recipe.training, recipe.data.image_size_px
    rounds = _as(ResolvedRounds, rounds, augmentation=rounds.augmentation or phases[-1].augmentation)
    smoothing = 0.0
    if training.plan == "auto":
        mixing = planned_mixing(recipe, phases) | {"max_minutes": None}
        smoothing = 0.0 if any(phase.augmentation == GENTLE for phase in phases) else SMOOTHING
    else:
        mixing = {"mixup_alpha": training.mixup_alpha or 0.0, "cutmix_alpha": training.cutmix_alpha or 0.0}
    filled = tuple(_phase(phase, training.learning_rate, size) for phase in phases)
    named = dict.fromkeys([*(phase.augmentation for phase in phases), rounds.augmentation])
    if any((phase.views or 1) > 1 for phase in phases):
        named |= {ITSELF: None}
    own = recipe.augmentation
    return _as(
        PlannedRecipe,
        recipe,
        augmentation=_as(lives.ResolvedAugmentation, own, policies={name: own.known()[name] for name in named}),
        training=_as(
            lives.PlannedTraining,
            training,
            plan=None,
            label_smoothing=smoothing if training.label_smoothing is None else training.label_smoothing,
            validation_photos=training.validation_photos or validation_photos,
            phases=filled,
            rounds=rounds,
            soup="none" if training.soup == "probe" and phases[0].method != PROBE else training.soup,
            **mixing,
        ),
    )


def settle(recipe: PlannedRecipe, *, precision: str, compile: bool, micro_batch_size: int) -> SettledRecipe:
    """The recipe with every `auto` replaced by what it means here; `compile`: it pays, `micro_batch_size`: it fits."""
    training = recipe.training
    made = _as(
        lives.SettledTraining,
        training,
        micro_batch_size=training.micro_batch_size or micro_batch_size,
        precision=precision if training.precision == "auto" else training.precision,
        compile=training.compile if training.compile != "auto" else "always" if compile else "never",
    )
    return _as(SettledRecipe, recipe, training=made)


def settled_as(recipe: ResolvedRecipe, other: ResolvedRecipe) -> ResolvedRecipe:
    """The recipe with the plan and the `auto` values of another one."""
    if recipe.training.plan == "auto" and isinstance(other, PlannedRecipe):
        size = recipe.data.image_size_px or other.data.image_size_px
        sized = with_sizes(
            recipe, size, recipe.training.batch_size or other.training.batch_size, caches=other.data.cache_side_px != 0
        )
        made = other.training
        recipe = with_plan(sized, made.phases, made.rounds, made.validation_photos)
    open_ones = {name for name in OF_A_MACHINE if dict(recipe.training)[name] in (None, "auto")}
    taken = {name: value for name, value in other.training if name in open_ones}
    data, settled = recipe.data, {}
    if data.value_range == "auto" or "percentiles" in data.value_range:
        settled["value_range"] = other.data.value_range
    if data.alpha == "auto":
        settled["alpha"] = other.data.alpha
    parts = {"training": recipe.training.model_copy(update=taken), "data": data.model_copy(update=settled)}
    return recipe.model_copy(update=parts)


def as_done(recipe: SettledRecipe, replanned: Sequence[Sequence[tuple[float, float]]]) -> SettledRecipe:
    """The recipe with how time changed the plan of each phase, one entry for each."""
    phases = zip(recipe.training.phases, replanned, strict=True)
    made = tuple(phase.model_copy(update={"replanned": tuple(pairs)}) for phase, pairs in phases)
    return _with_phases(recipe, made)


def as_planned(recipe: Kind) -> Kind:
    """The recipe before time changed its plan."""
    assert isinstance(recipe, Recipe)
    return _with_phases(recipe, tuple(phase.model_copy(update={"replanned": ()}) for phase in recipe.training.phases))


def _with_phases(recipe: Kind, phases: Sequence[Phase]) -> Kind:
    assert isinstance(recipe, Recipe)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"phases": tuple(phases)})})


def largest_size_px(recipe: Recipe) -> tuple[str, int]:
    """The field with the largest image size, and that size; 0 if all are open."""
    named = {"data.image_size_px": recipe.data.image_size_px or 0}
    named |= {f"training.phases.{i}.image_size_px": p.image_size_px or 0 for i, p in enumerate(recipe.training.phases)}
    return max(named.items(), key=lambda item: item[1])


def planned_mixing(recipe: Recipe, phases: Sequence[Phase]) -> dict[str, float]:
    """MixUp and CutMix where a plan's epochs would overfit; an alpha that is set, even to 0, stays, the other is 0."""
    training, epochs = recipe.training, sum(phase.max_epochs for phase in phases if phase.method == "gradient")
    if training.mixup_alpha is not None or training.cutmix_alpha is not None:
        return {"mixup_alpha": training.mixup_alpha or 0.0, "cutmix_alpha": training.cutmix_alpha or 0.0}
    mixes = recipe.model.weights != "none" and epochs >= MIXED_FROM_EPOCHS
    return MIXED if mixes else {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}


def _as(kind: type[Kind], section: Section, **settled: Any) -> Kind:
    """A section in a later life, with these fields filled in."""
    return kind(**{**dict(section), **settled})


def _model(model: Model, *, can_join: bool) -> lives.ResolvedModel:
    joins = can_join and model.head == "linear" and model.weights != "none"
    features = ("stages_max" if joins else "last") if model.features == "auto" else model.features
    width, dropout = model.head_width or HEAD_WIDTH[model.head], _default(model.head_dropout, HEAD_DROPOUT[model.head])
    return _as(lives.ResolvedModel, model, features=features, head_width=width, head_dropout=dropout)


def _data(data: Data, pretrained_preprocessing: dict[str, Any]) -> lives.ResolvedData:
    own = {name: value for name, value in data if value is not None}
    if data.fit != "crop":
        own = {"crop_share": 1.0} | own  # the whole photo is what was asked for
    return _as(lives.ResolvedData, data, **(pretrained_preprocessing | own | {"image_size_px": data.image_size_px}))


def _split(recipe: Recipe) -> lives.ResolvedSplit:
    split = recipe.split
    share = _default(split.validation_share, VALIDATION_SHARE, split.folds is None)
    return _as(lives.ResolvedSplit, split, seed=_default(split.seed, recipe.training.seed), validation_share=share)


def _training(recipe: Recipe) -> lives.ResolvedTraining:
    training = recipe.training
    tunes = training.plan == "auto" and recipe.model.weights != "none"
    mixes = bool(training.mixup_alpha or training.cutmix_alpha)
    return _as(
        lives.ResolvedTraining,
        training,
        learning_rate=training.learning_rate or (PLANNED_LEARNING_RATE if tunes else LEARNING_RATE),
        layer_decay=training.layer_decay or (PLANNED_LAYER_DECAY if tunes else LAYER_DECAY),
        precision="fp32" if recipe.execution == "exact" else training.precision,
        momentum=_default(training.momentum, 0.9, training.optimizer == "sgd"),
        mix_probability=_default(training.mix_probability, 1.0, mixes),
        plateau=_default(training.plateau, Plateau(), training.schedule == "plateau"),
        imbalance=training.imbalance or IMBALANCE[training.metric],
        warmup_epochs=_default(training.warmup_epochs, 0.0, training.schedule == "cosine"),
        soup=training.soup or ("probe" if tunes else "none"),
        soup_candidates=_default(training.soup_candidates, SOUP_CANDIDATES, training.soup == "greedy"),
    )


def _phase(phase: Phase, learning_rate: float, size: int) -> ResolvedPhase:
    """A phase with nothing left open; a probe has one epoch, of the head."""
    is_probe = phase.method == PROBE
    own = {"max_epochs": 1, "trainable": "head", "views": phase.views or 1} if is_probe else {}
    return _as(
        ResolvedPhase,
        phase,
        name=phase.name or (PROBE if is_probe else phase.augmentation),
        learning_rate=phase.learning_rate or learning_rate,
        image_size_px=phase.image_size_px or size,
        batch_norm=phase.batch_norm or ("frozen" if is_probe else "train"),
        **own,
    )


def _default(value: Any, otherwise: Any, applies: bool = True) -> Any:
    return otherwise if value is None and applies else value
