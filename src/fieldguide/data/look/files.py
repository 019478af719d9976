"""The files below a folder, and which have the ending of a photo. Looks at names only."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fieldguide.data.look.findings import Remark
from fieldguide.data.look.passed_over import Hidden, PassedOver, hidden, is_of_system, is_passed_over
from fieldguide.data.read.formats import has_image_ending
from fieldguide.errors import PhotosError
from fieldguide.storage import printable


class Below(NamedTuple):
    """What lies below a folder."""

    images: list[Path]  # files with an image ending, sorted
    others: int  # how many other files there are
    passed: PassedOver  # folders and files that are ignored

    def remarks(self, root: Path) -> list[Remark]:
        """What a person should know about what was ignored below `root`."""
        return self.passed.remarks(root)


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
    photos of other classes. Ignores names that begin with a dot, and what systems leave behind.
    """
    images, others, passed = [], 0, PassedOver()
    for path in _files(folder):
        if is_image(path):
            images.append(path)
        elif is_folder(path):
            passed.add(passed_over(path))
        elif not passed.add_file(path.name):
            others += 1
    return Below(sorted(images, key=lambda path: path.relative_to(folder).parts), others, passed)


def passed_over(folder: Path) -> PassedOver:
    """A hidden folder, if it holds photos, also in hidden folders inside it; or a system's folder."""
    try:
        found = images_below(folder)
        inside: int | None = len(found.images) + found.passed.images
    except PhotosError:
        inside = None
    made = PassedOver()
    if is_of_system(folder.name):
        made.places[folder.name] += 1
        made.photos[folder.name] += inside or 0
    elif inside or inside is None:
        made.hidden.append(Hidden(folder, inside))
    return made


def relative_name(path: Path, root: Path) -> str:
    """A path below `root` with `/`, as valid UTF-8."""
    return printable(path.relative_to(root).as_posix())


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
    """Files at any depth, and folders that are passed over, unopened."""
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
            elif not is_passed_over(path.name):
                folders.append(path)
            elif _identity(path) not in entered:
                yield path


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
