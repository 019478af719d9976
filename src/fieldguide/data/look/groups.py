"""Photos that belong together: sets that overlap are joined, and names that share a part are grouped."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def joined(groups: Iterable[Sequence[Item]]) -> list[list[Item]]:
    """Joins all groups that share an item, directly or over others (union-find).

    Gives groups without a common item, each in the order of first mention; also those of one item.
    """
    parent: dict[Item, Item] = {}

    def top(item: Item) -> Item:
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for group in groups:
        for item in group:
            parent[top(item)] = top(group[0])
    found: dict[Item, list[Item]] = defaultdict(list)
    for item in parent:
        found[top(item)].append(item)
    return list(found.values())


def problem_with_pattern(pattern: str) -> str | None:
    """Why `split.group_pattern` cannot be used, as a sentence; None if it can."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        return f"split.group_pattern {pattern!r} is not a regular expression: {error}"
    if "group" not in compiled.groupindex:
        return f"split.group_pattern {pattern!r} has no group named 'group'; write it as '(?P<group>.+)_\\d+'"
    return None


def groups_by_pattern(files: Iterable[str], pattern: str) -> list[list[str]]:
    """Groups of two and more files whose names share the part that a pattern, free of problems, calls `group`.

    It is searched in what follows the last `/`, so the frames of a burst stay together also across class folders.
    """
    compiled = re.compile(pattern)
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        match = compiled.search(PurePosixPath(file).name)
        if match and match["group"]:
            found[match["group"]].append(file)
    return [group for group in found.values() if len(group) > 1]


def groups_by_first_folder(files: Iterable[str], *, skip: bool) -> list[list[str]]:
    """Groups of two and more files whose names begin with the same folder; `skip`: the folder after that of a part."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders = file.split("/")[:-1][skip:]
        if folders:
            found[folders[0]].append(file)
    return [group for group in found.values() if len(group) > 1]
