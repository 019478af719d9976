"""Single fields of a recipe that are set beside its file: as text from a command line, or as mappings from Python."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.recipe.schema import Recipe
from fieldguide.recipe.sentences import shortened
from fieldguide.recipe.yaml_text import parse, plain
from fieldguide.settings import BUILT_IN

Override = str | Mapping[str, Any]
Overrides = Override | Sequence[Override]


def listed(overrides: Overrides) -> tuple[Override, ...]:
    """Overrides as a tuple, so that others can be added."""
    return (overrides,) if isinstance(overrides, str | Mapping) else tuple(overrides)


def fields_of(overrides: Overrides) -> set[str]:
    """The whole names of all fields that are set."""
    given = [[override] if isinstance(override, str) else _leaves(override) for override in listed(overrides)]
    leaves = [leaf for each in given for leaf in each]
    return {leaf.partition("=")[0].strip() if isinstance(leaf, str) else leaf[0] for leaf in leaves}


def apply(tree: dict[str, Any], override: Override) -> list[str]:
    """Sets the fields of an override in a recipe's plain data; returns the mistakes in it."""
    problems: list[str] = []
    for setting in [override] if isinstance(override, str) else _leaves(override):
        try:
            _put(tree, *(_read(setting) if isinstance(setting, str) else ("overrides", *setting)))
        except UsageError as error:
            problems += error.problems
    return problems


def _read(override: str) -> tuple[str, str, Any]:
    """Where `training.seed=3` comes from, for messages; its field; its value."""
    name, equals, text = override.partition("=")
    if not equals:
        raise UsageError(f"--set {shortened(override)}: must be FIELD=VALUE, such as training.learning_rate=3e-4")
    return "--set", name.strip(), parse(text, f"--set {shortened(override)}")


def _leaves(tree: Mapping[Any, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of nested mappings, by its whole name."""
    for key, value in tree.items():
        inner = f"{name}.{key}" if name else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, inner)
        else:
            yield inner, plain(value)


def _put(tree: dict[str, Any], source: str, name: str, value: Any) -> None:
    """Sets one field; a number in the name is a place in a list."""
    *path, last = name.split(".")
    if not all((*path, last)):
        raise UsageError(f"{source} {shortened(name)}: must be FIELD=VALUE, such as training.learning_rate=3e-4")
    here: Any = tree
    for position, key in enumerate(path):
        here = _child(here, key, ".".join(path[: position + 1]), source)
    if isinstance(here, list):
        here[_place(here, last, name, source)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise UsageError(f"{source} {name}: {'.'.join(path)} is {shortened(here)}, which has no fields")


def _child(here: Any, key: str, name: str, source: str) -> Any:
    if isinstance(here, list):
        return here[_place(here, key, name, source)]
    if not isinstance(here, dict):
        raise UsageError(f"{source} {name}: {name.rpartition('.')[0]} is {shortened(here)}, which has no fields")
    if here.get(key) is None:
        here[key] = _default_of(name)
    elif name == "training.rounds" and isinstance(here[key], int) and not isinstance(here[key], bool):
        here[key] = {"max_rounds": here[key]}
    return here[key]


def _default_of(name: str) -> Any:
    """The default of a section that the recipe leaves out, so that one field of it can be set."""
    here: Any = Recipe().model_dump(mode="json")
    here["augmentation"]["policies"] = {key: value.model_dump(mode="json") for key, value in BUILT_IN.items()}
    for key in name.split("."):
        here = here.get(key) if isinstance(here, dict) else None
    is_policy = name.startswith("augmentation.policies.") and isinstance(here, dict)
    return copy.deepcopy(here) if isinstance(here, list) or is_policy else {}


def _place(items: list[Any], key: str, name: str, source: str) -> int:
    if not items:
        raise UsageError(f"{source} {name}: the list is empty; set the whole list")
    if not key.isdecimal() or int(key) >= len(items):
        raise UsageError(f"{source} {name}: the list has no item {key}; use 0 to {len(items) - 1}")
    return int(key)
