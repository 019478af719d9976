"""The recipes of an experiment: read and checked together, their backbones measured once."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import experiment_folder
from fieldguide.commands.trial.begin import seconds_for
from fieldguide.commands.trial.choose_backbone import OpenBackbone, measured_backbone
from fieldguide.commands.trial.prepare import Prepared, demand_request
from fieldguide.data.look.source import Source
from fieldguide.errors import UsageError
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.overrides import Overrides


def read_recipes(
    source: Source,
    recipes: Sequence[str | Path],
    overrides: Overrides,
    weights: str | Path | None,
    device: str,
    folder: Path,
    screen: Screen,
) -> tuple[dict[str, ResolvedRecipe], dict[str, OpenBackbone]]:
    """All recipes by name, and those whose backbone is still to be measured; all mistakes at once."""
    if not recipes:
        raise UsageError("give at least one --recipe")
    found, open_ones = dict[str, ResolvedRecipe](), dict[str, OpenBackbone]()
    problems: list[str] = []
    outputs = experiment_folder.outputs_of(folder)
    for recipe in recipes:
        try:
            start = None if weights is None else str(weights)
            own, start, told = experiment_folder.with_backbone_of_before(folder, recipe, overrides, start)
            name, chosen, opened = demand_request(source, recipe, own, start, device, outputs, screen.say)
        except UsageError as error:
            problems += error.problems
            continue
        if chosen.split.folds is not None:
            problems.append(
                f"--recipe {recipe}: split.folds is {chosen.split.folds}, but the trials of an experiment share one "
                "split; leave it out, or cross-validate each recipe with fieldguide train, then use fieldguide compare"
            )
        if name == experiment_folder.SUBMISSIONS:
            problems.append(f"--recipe {recipe}: {name} is where submissions go; rename the file")
        if name in found:
            problems.append(f"--recipe {recipe}: there are two recipes named {name}; rename one of the files")
        if told:
            screen.say(told)
        found[name] = chosen
        open_ones |= {name: opened} if opened is not None else {}
    if problems:
        raise UsageError(*dict.fromkeys(problems))
    return found, open_ones


def demand_one_split(recipes: Iterable[ResolvedRecipe]) -> None:
    """Raises UsageError if the recipes would not share photos and split."""
    fields = ("unreadable", "leaks", "class_folder", "missing", "unlabelled", "two_labels")
    shared = {
        (recipe.training.seed, recipe.split, *recipe.data.model_dump(include=set(fields)).items()) for recipe in recipes
    }
    if len(shared) > 1:
        others = f"{', '.join(f'data.{name}' for name in fields[:-1])} or data.{fields[-1]}"
        raise UsageError(f"the recipes differ in training.seed, split, {others}; make them equal")


def measured_recipes(
    opened: Mapping[str, OpenBackbone], prepared: Prepared, device: str, screen: Screen
) -> tuple[dict[str, ResolvedRecipe], dict[str, Mapping[str, Any]]]:
    """The recipes whose backbone was open, each with its best, and what was tried; by the names of the recipes.

    Raises:
        UsageError: no candidate could be measured.
    """
    settled, tried = dict[str, ResolvedRecipe](), dict[str, Mapping[str, Any]]()
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    for name, one in opened.items():
        seconds = seconds_for(one.recipe.training.max_minutes)
        settled[name], measured = measured_backbone(one, prepared.split, paths, device, screen, seconds)
        tried |= {} if measured is None else {name: measured}
    return settled, tried
