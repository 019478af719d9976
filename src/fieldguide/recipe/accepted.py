"""Values of a recipe that a plain type cannot describe: a number or a word, short forms."""

from typing import Any

from pydantic_core import PydanticCustomError


def size_or_auto(value: Any) -> Any:
    """A side in pixels."""
    if value in (None, "auto") or (isinstance(value, int) and 8 <= value <= 2_048):
        return value
    raise PydanticCustomError("size", "should be auto, null or a whole number from 8 to 2048")


def share_or_auto(value: Any) -> Any:
    """A share of the side."""
    if value in (None, "auto") or (isinstance(value, int | float) and 0 < value <= 1):
        return value if value in (None, "auto") else float(value)
    raise PydanticCustomError("share", "should be auto, null or a number above 0 and at most 1")


def value_range(value: Any) -> Any:
    """`auto`, a pair, or pairs by name: `percentiles`, or what a training settled for `integers` and `floats`."""
    if value == "auto":
        return value
    pairs = value if isinstance(value, dict) else {"": value}
    names = set(pairs)
    is_known = names in ({""}, {"percentiles"}) or names <= {"integers", "floats"}
    if is_known and all(_is_range(pair) for pair in pairs.values()):
        made = {name: (float(low), float(high)) for name, (low, high) in pairs.items()}
        if not ("percentiles" in made and not 0 <= made["percentiles"][0] < made["percentiles"][1] <= 100):
            return made.get("", made)
    raise PydanticCustomError("range", "should be auto, [low, high], or {percentiles: [low, high]} from 0 to 100")


def _is_range(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2
    return is_pair and all(isinstance(each, int | float) for each in pair) and pair[0] < pair[1]


def rounds_from_number(value: Any) -> Any:
    """`rounds: 2` is short for `rounds: {max_rounds: 2}`."""
    return {"max_rounds": value} if isinstance(value, int) and not isinstance(value, bool) else value


def auto_is_null(value: Any) -> Any:
    """`auto` is another word for null."""
    return None if value == "auto" else value
