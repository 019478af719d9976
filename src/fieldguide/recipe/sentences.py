"""pydantic's errors as sentences that name the field and suggest the nearest name."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from fieldguide.recipe.names import nearest
from fieldguide.recipe.schema import Recipe

Place = tuple[int | str, ...]


def sentences(error: ValidationError) -> Iterator[tuple[Place, str]]:
    """Each mistake's place in the recipe, and a sentence about it."""
    entries = error.errors()
    for entry in entries:
        where = entry["loc"]
        is_echo = entry["type"] == "too_short" and any(
            other["loc"][: len(where)] == where and other is not entry for other in entries
        )
        if is_echo:  # pydantic also calls a list with wrong elements too short
            continue
        yield where, _sentence(where, entry["type"], entry["msg"], entry.get("input"))


def shortened(value: Any, most: int = 120) -> str:
    """A value for a message, cut where it is long; an override without quotes."""
    try:
        text = value if isinstance(value, str) and "=" in value else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a very deep list
        return f"such a {type(value).__name__}"
    return text if len(text) <= most else text[:most] + "..."


def _sentence(where: Sequence[int | str], kind: str, message: str, value: Any) -> str:
    name = ".".join(map(str, where)) or "the recipe"
    if kind == "string_unicode":
        return f"{name}: {shortened(value)} is not valid text, it holds half a character"
    if kind == "extra_forbidden":
        return f"{name}: there is no such field{nearest(str(where[-1]), _fields_at(where[:-1]))}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{name}: is a section with fields, so it cannot be {shortened(value)}"
    text = message[0].lower() + message[1:]
    if kind == "literal_error" and isinstance(value, str):
        options = text.removeprefix("input should be ").replace("'", "").replace(" or ", ", ").split(", ")
        return f"{name}: {text}, not {shortened(value)}{nearest(value, options)}"
    return f"{name}: {text}, not {shortened(value)}"


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
