"""The text of a recipe to plain data, and back. The only file that knows YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fieldguide.errors import UsageError
from fieldguide.settings import Section

MAX_RECIPE_BYTES = 100_000  # the longest preset has 3,000; YAML takes seconds for more than this
MAX_DEPTH = 30
OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def file_text(path: Path, option: str = "--recipe") -> str:
    """A recipe's file, given with an option; raises UsageError if it cannot be read, is too large or is not text."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_RECIPE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option} {path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    if len(content) > MAX_RECIPE_BYTES:
        raise UsageError(f"{option} {path}: over {MAX_RECIPE_BYTES:,} bytes, too large for a recipe")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{option} {path}: not UTF-8 text") from None


def parse(text: str, where: str) -> Any:
    """YAML to plain data; raises UsageError that says what is wrong with it, after `where`."""
    try:
        _refuse_tangles(text)
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader))
        return plain(yaml.safe_load(text))
    except UsageError as error:
        raise UsageError(*(f"{where}: {problem}" for problem in error.problems)) from None
    except Exception as error:  # PyYAML's constructors raise KeyError, IndexError and more on odd tags
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{where}: not valid YAML{line} ({reason})") from None


def _refuse_tangles(text: str) -> None:
    """With YAML's `*name` a small file can grow to any size, and deep nesting takes hours; no recipe needs them."""
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise ValueError("aliases (*name) are not allowed in a recipe")
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep, too deep for a recipe")


def _refuse_repeated(node: yaml.Node | None, name: str = "") -> None:
    """YAML keeps the last of two fields with the same name; the first would be lost without a word."""
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
            raise UsageError(f"{field} is on line {lines[key.value]} and again on line {line}; keep one")
        if isinstance(key, yaml.ScalarNode):
            lines[key.value] = line
        _refuse_repeated(value, field)


def mapping(text: str, where: str) -> dict[str, Any]:
    """As `parse`, of text with `field: value` lines; nothing at all is an empty recipe."""
    tree = parse(text, where)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: a recipe has lines such as `field: value`, but this is a {type(tree).__name__}")
    return tree


def plain(tree: Any) -> Any:
    """Plain data with field names as text: YAML reads `1:`, `on:` and `2020-01-01:` as something else."""
    if isinstance(tree, Section):
        return tree.model_dump(mode="json", exclude_unset=True)
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    return [plain(item) for item in tree] if isinstance(tree, list | tuple) else tree


def dump(tree: Mapping[str, Any], heading: str = "") -> str:
    """Plain data as YAML, under a comment."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)
