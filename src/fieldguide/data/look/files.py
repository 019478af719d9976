"""Which files lie below a folder, and which of them have the ending of a photo. Looks at names, never at content."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fieldguide.data.look.findings import some
from fieldguide.data.read.formats import has_image_ending
from fieldguide.errors import PhotosError, counted
from fieldguide.storage import printable


class Hidden(NamedTuple):
    """A folder whose name begins with a dot, and which holds photos.

    Attributes:
        folder: where it lies.
        images: how many; None where nobody may look.
    """

    folder: Path
    images: int | None

    def named(self, root: Path) -> str:
        """With how many, by its path below a folder."""
        count = "cannot be read" if self.images is None else counted(self.images, "photo")
        return f"{relative_name(self.folder, root)}/ ({count})"


class Below(NamedTuple):
    """What lies below a folder.

    Attributes:
        images: files with an image ending, sorted.
        others: how many other files there are.
        hidden: folders that were passed over with their photos.
    """

    images: list[Path]
    others: int
    hidden: tuple[Hidden, ...]


def problem_with_folder(root: Path) -> str | None:
    """Why `root` is no folder that can be read, as a sentence; None if it is."""
    try:
        if not root.exists():
            return f"{root}: there is no such folder"
    except OSError as error:  # a name that is too long, a folder that cannot be entered
        return f"{root}: cannot be read ({error.strerror})"
    if not root.is_dir():
        return f"{root}: is a file; give the folder that holds the photos"
    if not os.access(root, os.R_OK | os.X_OK):
        return f"{root}: cannot be read; you have no permission"
    return None


def images_below(folder: Path) -> Below:
    """All files below a folder.

    Follows links to folders, but enters no folder twice and none that `folder` lies in, so that a link in a circle
    brings no photos of other classes; passes over names that begin with a dot.
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
    """The hidden folder, if photos are passed over with it; those in a hidden one inside it count, too."""
    try:
        found = images_below(folder)
    except PhotosError:
        return [Hidden(folder, None)]
    inside = len(found.images) + sum(one.images or 0 for one in found.hidden)
    return [Hidden(folder, inside)] if inside else []


def about_hidden(folders: Sequence[Hidden], root: Path) -> list[str]:
    """What was passed over with hidden folders below `root`, as a sentence; nothing where there is none."""
    if not folders:
        return []
    named = some([one.named(root) for one in folders])
    return [f"passed over, because their names begin with a dot: {named}; rename what is to be used"]


def relative_name(path: Path, root: Path) -> str:
    """A path below `root` with `/`, as valid UTF-8."""
    return printable(path.relative_to(root).as_posix())


def hidden(name: str) -> bool:
    """Whether it begins with a dot."""
    return name.startswith(".")


def is_image(path: Path) -> bool:
    """Whether a file has the ending of a photo, and no dot at its beginning."""
    return has_image_ending(path) and not hidden(path.name)


def is_folder(path: Path) -> bool:
    """Whether it can be looked into; a link in a circle and what the system does not tell are files, which fail."""
    try:
        return path.is_dir()
    except OSError:
        return False


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        PhotosError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise PhotosError(f"{folder}: cannot be read ({error.strerror})") from None


def _files(top: Path) -> Iterator[Path]:
    """Files at any depth, and hidden folders, which are not entered."""
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
