"""YAML and overrides to a recipe, with all mistakes found at once; and back to YAML. Knows YAML alone."""

import contextlib
import copy
import dataclasses
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fieldguide.errors import UsageError
from fieldguide.recipe.contradictions import contradictions
from fieldguide.recipe.names import nearest
from fieldguide.recipe.schema import Recipe

MAX_RECIPE_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Draft:
    """What was asked for.

    Attributes:
        name: the preset's, or the file's without its ending.
        recipe: with its mistakes taken out, for looking further; `demand` gives it only where there were none.
        problems: every mistake, a sentence each.
    """

    name: str
    recipe: Recipe
    problems: tuple[str, ...]

    def demand(self) -> Recipe:
        """The recipe.

        Raises:
            UsageError: all mistakes, a line each.
        """
        if self.problems:
            raise UsageError(*self.problems)
        return self.recipe


def preset_names() -> list[str]:
    """The names of the recipes that come with the program, sorted."""
    folder = importlib.resources.files("fieldguide.recipe") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset's YAML with its comments.

    Raises:
        UsageError: there is no such preset; the message has the nearest name.
    """
    known = preset_names()
    if name not in known:
        raise UsageError(
            f"--recipe {name}: there is no such recipe{nearest(name, known)}; "
            f"known are {', '.join(known)}, or give a .yaml file"
        )
    return (importlib.resources.files("fieldguide.recipe") / "presets" / f"{name}.yaml").read_text("utf-8")


def read_draft(name_or_file: str | Path, overrides: Sequence[str] = (), weights: str | None = None) -> Draft:
    """Reads a preset or a file, applies `field.name=value` overrides, and collects every mistake.

    Args:
        name_or_file: a preset's name, or a path that ends in .yaml or .yml or has a folder in it.
        overrides: `field.name=value`, the value in YAML; a number in the name is a place in a list.
        weights: short for `model.weights`.
    """
    is_file = _is_file(name_or_file)
    name = Path(name_or_file).stem if is_file else str(name_or_file)
    problems: list[str] = []
    try:
        text = _file_text(Path(name_or_file)) if is_file else preset_text(str(name_or_file))
        tree = _mapping(text, str(name_or_file))
    except UsageError as error:
        problems += error.problems
        tree = {}
    for override in overrides:
        try:
            _apply(tree, override)
        except UsageError as error:
            problems += error.problems
    if weights is not None:
        with contextlib.suppress(UsageError):  # a model that has no fields is told by the validation
            _child(tree, "model", "model")["weights"] = weights
    recipe, found = _validate(tree)
    return Draft(name, recipe, (*problems, *found))


def read_recipe(name_or_file: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """As `read_draft`, for callers that want the recipe or the error.

    Raises:
        UsageError: all mistakes, a line each.
    """
    return read_draft(name_or_file, overrides).demand()


def to_yaml(recipe: Recipe, heading: str = "") -> str:
    """A recipe as YAML that reads back as the same recipe."""
    tree = recipe.model_dump(mode="json")
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def _is_file(name_or_file: str | Path) -> bool:
    text = str(name_or_file)
    return isinstance(name_or_file, Path) or text.endswith((".yaml", ".yml")) or os.sep in text


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--recipe {path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_RECIPE_BYTES:
        raise UsageError(f"--recipe {path}: over {MAX_RECIPE_BYTES:,} bytes, which is no recipe")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"--recipe {path}: is not UTF-8 text") from None


def _parse(text: str, where: str) -> Any:
    try:
        _refuse_aliases(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}: is not YAML{line} ({reason})") from None


def _refuse_aliases(text: str) -> None:
    """YAML's `*name` can blow a small file up to any size; no recipe needs it."""
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("aliases (*name) are not allowed in a recipe")


def _mapping(text: str, where: str) -> dict[str, Any]:
    tree = _parse(text, where)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: a recipe is a list of `field: value` lines, this is a {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    """Sets one field; a number in the name is a place in a list."""
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UsageError(f"--set {override}: must be FIELD=VALUE, such as training.learning_rate=3e-4")
    value = _parse(text, f"--set {override}")
    *path, last = name.split(".")
    here: Any = tree
    for position, key in enumerate(path):
        here = _child(here, key, ".".join(path[: position + 1]))
    if isinstance(here, list):
        here[_place(here, last, name)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"--set {override}: {'.'.join(path)} is {here!r} and has no fields")


def _child(here: Any, key: str, name: str) -> Any:
    if isinstance(here, list):
        return here[_place(here, key, name)]
    if not isinstance(here, dict):
        raise UsageError(f"--set {name}: {name.rpartition('.')[0]} is {here!r} and has no fields")
    if here.get(key) is None:
        here[key] = _default_of(name)
    elif name == "training.rounds" and isinstance(here[key], int):
        here[key] = {"max_rounds": here[key]}
    return here[key]


def _default_of(name: str) -> Any:
    """What a section that the recipe leaves out stands for, so that a field of it can be set."""
    here: Any = Recipe().model_dump(mode="json")
    for key in name.split("."):
        here = here.get(key) if isinstance(here, dict) else None
    return copy.deepcopy(here) if isinstance(here, list) else {}


def _place(items: list[Any], key: str, name: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise UsageError(f"--set {name}: {key} is no place in a list of {len(items)}; say 0 to {len(items) - 1}")
    return int(key)


def _validate(tree: dict[str, Any]) -> tuple[Recipe, list[str]]:
    """Validates, takes what was wrong out, validates again: so contradictions are found beside mistakes."""
    problems: list[str] = []
    wrong: set[str] = set()
    rest = copy.deepcopy(tree)
    while True:  # each turn takes something out
        try:
            recipe = Recipe.model_validate(rest)
            break
        except ValidationError as error:
            for entry in error.errors():
                where = tuple(part for part in entry["loc"] if isinstance(part, int) or part != "[key]")
                problems.append(_sentence(where, entry["type"], entry["msg"], entry.get("input")))
                wrong.add(".".join(map(str, where)))
                _remove(rest, where)
    problems += [
        found.message
        for found in contradictions(recipe)
        if not any(field == bad or field.startswith(bad + ".") for field in found.fields for bad in wrong)
    ]
    return recipe, list(dict.fromkeys(problems))


def _remove(tree: Any, where: Sequence[int | str]) -> None:
    """Takes the deepest thing on the way out that is there."""
    holder: Any = None
    key: int | str = ""
    here = tree
    for part in where:
        if isinstance(here, dict) and part in here:
            holder, key, here = here, part, here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            if not isinstance(here[part], dict):
                break  # an element of a tuple: the whole tuple goes
            holder, key, here = here, part, here[part]
        else:
            break
    assert holder is not None, where
    del holder[key]


def _sentence(where: Sequence[int | str], kind: str, message: str, value: Any) -> str:
    name = ".".join(map(str, where))
    if kind == "extra_forbidden":
        return f"{name}: there is no such field{nearest(str(where[-1]), _fields_at(where[:-1]))}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{name}: has fields of its own and cannot be {value!r}"
    text = message[0].lower() + message[1:]
    if kind == "literal_error" and isinstance(value, str):
        options = text.removeprefix("input should be ").replace("'", "").replace(" or ", ", ").split(", ")
        return f"{name}: {text}, not {value!r}{nearest(value, options)}"
    return f"{name}: {text}, not {value!r}"


def _fields_at(where: Sequence[int | str]) -> list[str]:
    """The names that exist in the section at `where`."""
    section: type[BaseModel] = Recipe
    for part in where:
        if isinstance(part, int) or part not in section.model_fields:
            continue
        inner = _section_in(section.model_fields[str(part)].annotation)
        if inner is not None:
            section = inner
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None
