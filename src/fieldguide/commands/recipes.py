"""`fieldguide recipes`: list and show presets, and copy one to change it."""

from collections.abc import Sequence
from pathlib import Path

from fieldguide.errors import UsageError
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe
from fieldguide.recipe.load import preset_names, preset_text, read_recipe
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.storage import write_text

DECIDED_LATER = "  decided when a training begins: a probe (the head), then as much as fits in the time"


def list_recipes() -> list[tuple[str, str]]:
    """Each preset's name with its first comment line."""
    return [(name, preset_text(name).splitlines()[0].removeprefix("# ")) for name in preset_names()]


def copy_recipe(name: str, file: str | Path) -> Path:
    """Copies a preset with its comments; raises UsageError if the file exists or cannot be written."""
    text, target = preset_text(name), Path(file)
    try:
        if target.exists():
            raise UsageError(f"{target}: already exists and is not overwritten; choose another name")
        write_text(target, text)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror or error})") from None
    return target


def describe_model(recipe: Recipe, num_classes: int) -> list[str]:
    """What a recipe builds: the head's layers with shapes, parameters, and what each phase trains."""
    from fieldguide import assemble
    from fieldguide.model import backbone as backbones
    from fieldguide.model.classifier import count_parameters, describe_head, make_on_meta

    if recipe.model.backbone == AUTO:
        return _describe_candidates(recipe, num_classes)
    if problem := backbones.problem_with_backbone(recipe.model.backbone):
        raise UsageError(problem)
    full = assemble.resolved(recipe)
    model = make_on_meta(assemble.architecture(full, num_classes))
    counts, features = count_parameters(model), model.num_features
    name = recipe.model.backbone + ("" if model.takes == "last" else ", three stages")
    size = full.data.image_size_px or "side"
    lines = [f"model for {num_classes} classes:"]
    rows = [
        ("images", f"(batch, 3, {size}, {size})", ""),
        (name, f"(batch, {features:,})", f"{counts['backbone']:,}"),
        *((name, shape, f"{count:,}" if count else "") for name, shape, count in describe_head(model, features)),
        ("total", "", f"{counts['total']:,} parameters ({counts['backbone']:,} backbone, {counts['head']:,} head)"),
    ]
    lines += [f"  {name:<34} {shape:<22} {count}".rstrip() for name, shape, count in rows]
    return [*lines, "trainable:", *_trainable(full, model)]


def _describe_candidates(recipe: Recipe, num_classes: int) -> list[str]:
    """What `model.backbone: auto` chooses from, as far as is known before there are photos."""
    from fieldguide.assemble.candidates import within_rules

    first = f"model for {num_classes} classes:"
    if recipe.model.weights not in ("hub", "none"):
        return [first, f"  model.backbone: auto chooses from what lies in {recipe.model.weights}"]
    if recipe.model.weights == "none":
        return [first, "  model.backbone: auto chooses a ResNet by the rules, the minutes and the speed of the machine"]
    rows = within_rules(recipe, num_classes)
    if not rows:
        return [first, "  the rules allow no candidate of model.backbone: auto; name a backbone"]
    lines = [first, "  model.backbone: auto measures these on your training photos, and trains the best:"]
    for row in rows:
        lines.append(f"  {row.name:<40} {row.parameters / 1e6:5.1f} M parameters, {row.gmacs:.1f} GMACs a photo")
    return [*lines, "trainable:", DECIDED_LATER]


def _trainable(recipe: ResolvedRecipe, model: object) -> Sequence[str]:
    from fieldguide.model.classifier import Classifier, trainable_names

    assert isinstance(model, Classifier)
    if not isinstance(recipe, PlannedRecipe):
        return [DECIDED_LATER]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    lines = []
    for phase in recipe.training.phases:
        learning = sum(sizes[name] for name in trainable_names(model, phase.trainable))
        lines.append(
            f"  phase {phase.name}: {phase.trainable} ({learning:,} parameters), {phase.augmentation} augmentation, "
            f"learning rate {phase.learning_rate:g}, at most {phase.max_epochs} epochs"
        )
    rounds = recipe.training.rounds
    if rounds.max_rounds:
        lines.append(
            f"  rounds: as the last phase, up to {rounds.max_rounds} of at most {rounds.max_epochs} epochs, "
            f"each at {rounds.learning_rate_factor:g} times the rate of the one before"
        )
    return lines


def show_recipe(name_or_file: str, num_classes: int = 100) -> str:
    """A recipe's text, and what it builds; raises UsageError for mistakes in it."""
    recipe = read_recipe(name_or_file)
    is_preset = name_or_file in preset_names()
    text = preset_text(name_or_file) if is_preset else Path(name_or_file).read_text(encoding="utf-8")
    return text.rstrip("\n") + "\n\n" + "\n".join(describe_model(recipe, num_classes))
