"""YAML and overrides to a recipe, with all mistakes found at once; and back to YAML. Knows YAML alone."""

import copy
import dataclasses
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fieldguide.errors import UsageError
from fieldguide.recipe.contradictions import contradictions
from fieldguide.recipe.names import nearest
from fieldguide.recipe.schema import Recipe
from fieldguide.recipe.sentences import sentences, shortened
from fieldguide.settings import BUILT_IN

MAX_RECIPE_BYTES = 100_000  # the longest preset has 3,000; YAML takes seconds for more than this
MAX_DEPTH = 30
OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


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
        model = _child(tree, "model", "model")
        if isinstance(model, dict):  # anything else is told by the validation
            model["weights"] = weights
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
    if recipe.training.plan == "auto":  # which writes them
        del tree["training"]["phases"], tree["training"]["rounds"]
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def _is_file(name_or_file: str | Path) -> bool:
    text = str(name_or_file)
    return isinstance(name_or_file, Path) or text.endswith((".yaml", ".yml")) or os.sep in text


def _file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe {path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    if len(content) > MAX_RECIPE_BYTES:
        raise UsageError(f"--recipe {path}: over {MAX_RECIPE_BYTES:,} bytes, which is no recipe")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"--recipe {path}: is not UTF-8 text") from None


def _parse(text: str, where: str) -> Any:
    try:
        _refuse_tangles(text)
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader))
        return _with_named_fields(yaml.safe_load(text))
    except UsageError as error:
        raise UsageError(*(f"{where}: {problem}" for problem in error.problems)) from None
    except Exception as error:  # PyYAML's constructors raise KeyError, IndexError and more on odd tags
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{where}: is not YAML{line} ({reason})") from None


def _refuse_tangles(text: str) -> None:
    """YAML's `*name` can blow a small file up to any size, and deep nesting takes hours; no recipe needs them."""
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("aliases (*name) are not allowed in a recipe")
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep, which is no recipe")


def _refuse_repeated(node: yaml.Node | None, name: str = "") -> None:
    """YAML keeps the last of two fields of one name; the first would be ignored in silence."""
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _refuse_repeated(item, f"{name}.{place}" if name else str(place))
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[Any, int] = {}
    for key, value in node.value:
        field = f"{name}.{key.value}" if name else str(key.value)
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in lines:
            raise UsageError(f"{field} stands in line {lines[key.value]} and again in line {line}; join them")
        if isinstance(key, yaml.ScalarNode):
            lines[key.value] = line
        _refuse_repeated(value, field)


def _mapping(text: str, where: str) -> dict[str, Any]:
    tree = _parse(text, where)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: a recipe is a list of `field: value` lines, this is a {type(tree).__name__}")
    return tree


def _with_named_fields(tree: Any) -> Any:
    """Field names as text: YAML reads `1:`, `on:` and `2020-01-01:` as something else."""
    if isinstance(tree, dict):
        return {str(key): _with_named_fields(value) for key, value in tree.items()}
    return [_with_named_fields(item) for item in tree] if isinstance(tree, list) else tree


def _apply(tree: dict[str, Any], override: str) -> None:
    """Sets one field; a number in the name is a place in a list."""
    name, equals, text = override.partition("=")
    name = name.strip()
    if not equals or not all(name.split(".")):
        raise UsageError(f"--set {shortened(override)}: must be FIELD=VALUE, such as training.learning_rate=3e-4")
    value = _parse(text, f"--set {shortened(override)}")
    *path, last = name.split(".")
    here: Any = tree
    for position, key in enumerate(path):
        here = _child(here, key, ".".join(path[: position + 1]))
    if isinstance(here, list):
        here[_place(here, last, name)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"--set {shortened(override)}: {'.'.join(path)} is {shortened(here)} and has no fields")


def _child(here: Any, key: str, name: str) -> Any:
    if isinstance(here, list):
        return here[_place(here, key, name)]
    if not isinstance(here, dict):
        raise UsageError(f"--set {name}: {name.rpartition('.')[0]} is {shortened(here)} and has no fields")
    if here.get(key) is None:
        here[key] = _default_of(name)
    elif name == "training.rounds" and isinstance(here[key], int) and not isinstance(here[key], bool):
        here[key] = {"max_rounds": here[key]}
    return here[key]


def _default_of(name: str) -> Any:
    """What a section that the recipe leaves out stands for, so that a field of it can be set."""
    here: Any = Recipe().model_dump(mode="json")
    here["augmentation"]["policies"] = {key: value.model_dump(mode="json") for key, value in BUILT_IN.items()}
    for key in name.split("."):
        here = here.get(key) if isinstance(here, dict) else None
    is_policy = name.startswith("augmentation.policies.") and isinstance(here, dict)
    return copy.deepcopy(here) if isinstance(here, list) or is_policy else {}


def _place(items: list[Any], key: str, name: str) -> int:
    if not items:
        raise UsageError(f"--set {name}: the list is empty; give it whole")
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
    """Takes a wrong field out, if it is still there; of a wrong element of a list, the whole list goes."""
    holder: Any = None
    key: int | str = ""
    here: Any = tree
    for part in where:
        if isinstance(here, dict):
            if part not in here:
                return False  # it went with another mistake
            holder, key, here = here, part, here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here) and isinstance(here[part], dict):
            here = here[part]
        else:
            break
    if holder is None:  # the mistake has no place, such as a name that is no text: nothing of it can be kept
        tree.clear()
    else:
        del holder[key]
    return True
