"""What a search may try: recipe fields, each with values or a range, as a YAML file."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.recipe.yaml_text import file_text, mapping

DEFAULT = "default"
KEYS = {"from", "to", "scale"}
SCALES = ("linear", "log")
SHARED = (  # what all trials of a search must have in common
    "training.seed", "training.max_minutes", "training.more_epochs", "split.", "rules.", "data.unreadable",
    "data.class_folder", "data.missing", "data.unlabelled", "data.two_labels", "data.leaks", "model.weights",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values by which the whole is checked."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Any number between two, both included; whole ones if both are whole."""

    low: float
    high: float
    is_log: bool

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values by which the whole is checked."""
        return (self.low, self.high)


Domain = Choice | Range
Space = Mapping[str, Domain]


def read_space(space: str | Path) -> dict[str, Domain]:
    """A space from a file, or the default one by its name.

    Raises:
        UsageError: all that is wrong with it, but for what its values mean in a recipe.
    """
    if str(space) == DEFAULT:
        text = resources.files("fieldguide.recipe").joinpath("spaces", "default.yaml").read_text(encoding="utf-8")
    else:
        text = file_text(Path(space), "--space")
    found, problems = dict[str, Domain](), list[str]()
    for field, told in mapping(text, f"--space {space}").items():
        where = f"--space {space}: {field}"
        if any(field == shared or (shared.endswith(".") and field.startswith(shared)) for shared in SHARED):
            problems.append(f"{where}: must be the same for all trials; leave it out, and use --set")
            continue
        try:
            found[str(field)] = _domain(told)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if not found and not problems:
        problems.append(f"--space {space}: has no fields")
    if problems:
        raise UsageError(*problems)
    if not has_choice(found):
        raise UsageError(f"--space {space}: every field has one value, so there is nothing to search")
    return found


def _domain(told: Any) -> Domain:
    """Raises ValueError with the end of a sentence."""
    if isinstance(told, list):
        if not told or any(isinstance(value, list | dict) for value in told):
            raise ValueError("must be a list of values, such as [32, 64]")
        if len(set(map(repr, told))) < len(told):
            raise ValueError("has a value twice")
        return Choice(tuple(told))
    if not isinstance(told, dict) or not {"from", "to"} <= set(told) <= KEYS:
        raise ValueError("must be a list of values, or {from: 0.001, to: 0.1, scale: log}")
    low, high, scale = told["from"], told["to"], told.get("scale", "linear")
    if any(isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) for end in (low, high)):
        raise ValueError("from and to must be numbers")
    if not low < high:
        raise ValueError("from must be below to")
    if scale not in SCALES:
        raise ValueError("scale must be linear or log")
    if scale == "log" and low <= 0:
        raise ValueError("a log scale needs from above 0")
    return Range(low, high, scale == "log")


def has_choice(space: Space) -> bool:
    """Whether some field has more than one value."""
    return any(isinstance(domain, Range) or len(domain.values) > 1 for domain in space.values())


def first_values(space: Space) -> dict[str, Any]:
    """A value of each field."""
    return {field: domain.probes[0] for field, domain in space.items()}


def probes(space: Space) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each value of each field, with the first ones of all others: (field, value, all values)."""
    first = first_values(space)
    for field, domain in space.items():
        for value in domain.probes:
            yield field, value, first | {field: value}
