"""The files below a folder, and which have the ending of a photo. Looks at names only."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fieldguide.data.look.findings import Remark, Topic, some
from fieldguide.data.read.formats import has_image_ending
from fieldguide.errors import PhotosError, counted
from fieldguide.storage import printable


class Hidden(NamedTuple):
    """A folder with photos whose name begins with a dot."""

    folder: Path
    images: int | None  # how many; None if it cannot be read


class Below(NamedTuple):
    """What lies below a folder."""

    images: list[Path]  # files with an image ending, sorted
    others: int  # how many other files there are
    hidden: tuple[Hidden, ...]  # ignored folders that hold photos


def problem_with_folder(root: Path) -> str | None:
    """Why `root` cannot be read as a folder; None if it can."""
    try:
        if not root.exists():
            return f"{root}: there is no such folder"
    except OSError as error:  # a name that is too long, a folder without permission
        return f"{root}: cannot be read ({error.strerror})"
    if not root.is_dir():
        return f"{root}: is a file; give the folder that holds the photos"
    if not os.access(root, os.R_OK | os.X_OK):
        return f"{root}: cannot be read; you have no permission"
    return None


def images_below(folder: Path) -> Below:
    """All files below a folder.

    Follows links to folders, but enters no folder twice and none that contains `folder`: a circular link adds no
    photos of other classes. Ignores names that begin with a dot.
    """
    images, others, passed_over = [], 0, []
    for path in _files(folder):
        if is_image(path):
            images.append(path)
        elif is_folder(path):
            passed_over += with_photos(path)
        else:
            others += 1
    return Below(sorted(images, key=lambda path: path.relative_to(folder).parts), others, tuple(passed_over))


def with_photos(folder: Path) -> list[Hidden]:
    """The hidden folder, if it holds photos, also in hidden folders inside it."""
    try:
        found = images_below(folder)
    except PhotosError:
        return [Hidden(folder, None)]
    inside = len(found.images) + sum(one.images or 0 for one in found.hidden)
    return [Hidden(folder, inside)] if inside else []


def about_hidden(folders: Sequence[Hidden], root: Path) -> list[Remark]:
    """A remark if folders below `root` were ignored because they are hidden, else none."""
    if not folders:
        return []
    told = ["cannot be read" if one.images is None else counted(one.images, "photo") for one in folders]
    named = [f"{relative_name(one.folder, root)}/ ({count})" for one, count in zip(folders, told, strict=True)]
    words = f"ignored, because their names begin with a dot: {some(named)}; rename those that you want to use"
    return [Remark(Topic.LAYOUT, words, tuple(named))]


def relative_name(path: Path, root: Path) -> str:
    """A path below `root` with `/`, as valid UTF-8."""
    return printable(path.relative_to(root).as_posix())


def hidden(name: str) -> bool:
    """Whether it begins with a dot."""
    return name.startswith(".")


def is_image(path: Path) -> bool:
    """Whether a file has an image ending and does not begin with a dot."""
    return has_image_ending(path) and not hidden(path.name)


def is_folder(path: Path) -> bool:
    """Whether it is a folder; a circular link, or a path that the system refuses, is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def entries(folder: Path) -> list[Path]:
    """The contents of a folder, sorted; raises PhotosError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise PhotosError(f"{folder}: cannot be read ({error.strerror})") from None


def _files(top: Path) -> Iterator[Path]:
    """Files at any depth, and hidden folders, unopened."""
    entered = {_identity(parent) for place in (top.absolute(), top.resolve()) for parent in place.parents}
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            identity = _identity(folder)
            inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise PhotosError(f"{folder}: cannot be read ({error.strerror})") from None
        if identity in entered:
            continue
        entered.add(identity)
        for path in (Path(entry.path) for entry in inside):
            if not is_folder(path):
                yield path
            elif not hidden(path.name):
                folders.append(path)
            elif _identity(path) not in entered:
                yield path


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
