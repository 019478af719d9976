"""Groups of photos that a person tells: by a table, by folders, or by a pattern of names."""

from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.groups import groups_by_first_folder, groups_by_pattern
from fieldguide.data.look.scan import PhotoFolder
from fieldguide.errors import UsageError, counted
from fieldguide.recipe.schema import Recipe


def groups_as_told(folder: PhotoFolder, recipe: Recipe, screen: Screen) -> list[list[str]]:
    """Groups of the table, of the first folder, and of the pattern."""
    found = folder.groups
    if found:
        screen.say(
            f"the table keeps {counted(sum(map(len, found)), 'photo')} together in {counted(len(found), 'group')}"
        )
    if recipe.split.group_by is not None:
        found += _groups_by_folder(folder, recipe.data.class_folder, screen)
    return found + _groups_by_name(folder, recipe.split.group_pattern, screen)


def _groups_by_folder(folder: PhotoFolder, class_folder: str, screen: Screen) -> list[list[str]]:
    """Photos below one first folder; a mistake if that folder is the class."""
    groups = groups_by_first_folder([photo.file for photo in folder.photos], skip=folder.has_parts)
    if folder.listed is None and class_folder == "first":
        raise UsageError(
            "split.group_by first_folder: the first folder is the class, so each class would be one group; set "
            "data.class_folder to last, or leave split.group_by out"
        )
    if not groups:
        raise UsageError(f"split.group_by first_folder: no two photos are in one folder below {folder.root}")
    screen.say(
        f"split.group_by keeps {counted(sum(map(len, groups)), 'photo')} together in {counted(len(groups), 'group')}"
    )
    return groups


def _groups_by_name(folder: PhotoFolder, pattern: str | None, screen: Screen) -> list[list[str]]:
    """The groups of the pattern; a pattern that joins no photos is a mistake."""
    if pattern is None:
        return []
    groups = groups_by_pattern([photo.file for photo in folder.photos], pattern)
    if not groups:
        first = folder.photos[0].path.name
        raise UsageError(
            f"split.group_pattern {pattern!r}: finds no two photos of a group; it is searched in names such as {first}"
        )
    joined = sum(map(len, groups))
    screen.say(f"split.group_pattern keeps {counted(joined, 'photo')} together in {counted(len(groups), 'group')}")
    return groups
