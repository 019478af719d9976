"""YAML and overrides to a recipe, with all mistakes found at once; and back to YAML."""

import copy
import dataclasses
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fieldguide.errors import UsageError
from fieldguide.recipe.contradictions import contradictions
from fieldguide.recipe.names import nearest
from fieldguide.recipe.overrides import Overrides, apply, listed
from fieldguide.recipe.schema import Recipe
from fieldguide.recipe.sentences import sentences
from fieldguide.recipe.yaml_text import dump, file_text, mapping


@dataclasses.dataclass(frozen=True)
class Draft:
    """A recipe and the mistakes in it."""

    name: str  # of the preset, or of the file without its ending
    recipe: Recipe  # without the fields that were wrong, so that more can be checked
    problems: tuple[str, ...]  # every mistake, one sentence each

    def demand(self) -> Recipe:
        """The recipe; raises UsageError with all mistakes, one line each."""
        if self.problems:
            raise UsageError(*self.problems)
        return self.recipe


def preset_names() -> list[str]:
    """The names of the presets, sorted."""
    folder = importlib.resources.files("fieldguide.recipe") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset's YAML with its comments; raises UsageError that suggests the nearest name."""
    known = preset_names()
    if name not in known:
        raise UsageError(
            f"--recipe {name}: no such recipe{nearest(name, known)}; choose from {', '.join(known)}, "
            "or give a .yaml file"
        )
    return (importlib.resources.files("fieldguide.recipe") / "presets" / f"{name}.yaml").read_text("utf-8")


def read_draft(recipe: str | Path | Recipe, overrides: Overrides = (), weights: str | None = None) -> Draft:
    """Reads a recipe, applies overrides, and collects every mistake.

    Args:
        recipe: a preset's name, a path that ends in .yaml or .yml or has a folder in it, or a recipe built in Python.
        overrides: `"training.max_epochs=5"`, with the value in YAML; `{"training.max_epochs": 5}`;
            `{"training": {"max_epochs": 5}}`; or several of these. A number in a name is a place in a list.
        weights: short for `model.weights`.
    """
    problems: list[str] = []
    name, tree = "recipe", {}
    try:
        if isinstance(recipe, Recipe):
            tree = recipe.model_dump(mode="json", exclude_unset=True)
        else:
            is_file = _is_file(recipe)
            name = Path(recipe).stem if is_file else str(recipe)
            tree = mapping(file_text(Path(recipe)) if is_file else preset_text(str(recipe)), str(recipe))
    except UsageError as error:
        problems += error.problems
    for override in listed(overrides):
        problems += apply(tree, override)
    if weights is not None:
        if tree.get("model") is None:
            tree["model"] = {}
        if isinstance(tree["model"], dict):  # if it is anything else, the validation says so
            tree["model"]["weights"] = weights
    made, found = _validate(tree)
    return Draft(name, made, (*problems, *found))


def read_recipe(recipe: str | Path | Recipe, overrides: Overrides = ()) -> Recipe:
    """Reads a recipe and applies overrides; arguments as of `read_draft`.

    Raises:
        UsageError: all mistakes, one line each.
    """
    return read_draft(recipe, overrides).demand()


def to_yaml(recipe: Recipe, heading: str = "") -> str:
    """A recipe as YAML that reads back as the same recipe."""
    tree = recipe.model_dump(mode="json")
    if recipe.training.plan == "auto":  # the plan writes them
        del tree["training"]["phases"]
        tree["training"]["rounds"] = {"max_rounds": recipe.training.rounds.max_rounds}
    return dump(tree, heading)


def _is_file(name_or_file: str | Path) -> bool:
    text = str(name_or_file)
    return isinstance(name_or_file, Path) or text.endswith((".yaml", ".yml")) or os.sep in text


def _validate(tree: dict[str, Any]) -> tuple[Recipe, list[str]]:
    """Validates, removes what was wrong and validates again, so that contradictions are found beside other mistakes."""
    problems: list[str] = []
    wrong: set[str] = set()
    rest = copy.deepcopy(tree)
    while True:  # each turn removes something
        try:
            recipe = Recipe.model_validate(rest)
            break
        except ValidationError as error:
            found = list(sentences(error))
            problems += [problem for _, problem in found]
            wrong |= {".".join(map(str, where)) for where, _ in found}
            removed = [_remove(rest, where) for where, _ in found]
            assert any(removed), found
    problems += [
        pair.message
        for pair in contradictions(recipe)
        if not any(field == bad or field.startswith(bad + ".") for field in pair.fields for bad in wrong)
    ]
    return recipe, list(dict.fromkeys(problems))


def _remove(tree: dict[str, Any], where: Sequence[int | str]) -> bool:
    """Removes a wrong field, if it is still there; for a wrong element of a list, the whole list."""
    holder: Any = None
    key: int | str = ""
    here: Any = tree
    for part in where:
        if isinstance(here, dict):
            if part not in here:
                return False  # removed with another mistake
            holder, key, here = here, part, here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here) and isinstance(here[part], dict):
            here = here[part]
        else:
            break
    if holder is None:  # the mistake has no place, such as a name that is not text: nothing can be kept
        tree.clear()
    else:
        del holder[key]
    return True
