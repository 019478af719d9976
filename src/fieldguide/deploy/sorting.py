"""Photos copied or linked into one folder per predicted class."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from fieldguide.data.read.content import copy_photo
from fieldguide.data.read.unreadable import UnreadableError
from fieldguide.deploy.unfinished import Row
from fieldguide.errors import UsageError
from fieldguide.storage import problem_with_output_folder

How = Literal["copy", "link"]
NOT_IN_FOLDERS = re.compile(r"[\\:\x00-\x1f\x7f-\x9f]")  # what leaves a folder on some system, or no terminal shows


def problem_with_sorting(folder: Path, inputs: Iterable[Path]) -> str | None:
    """Why photos cannot be sorted into a folder; None if they can."""
    real = Path(os.path.realpath(folder))
    for given in inputs:
        if given.is_dir() and real.is_relative_to(os.path.realpath(given)):
            return f"{folder}: is inside {given}, where the next prediction would find the photos twice"
    return problem_with_output_folder(folder)


def sort_into(folder: Path, rows: Iterable[Row], paths: Mapping[str, Path], classes: Sequence[str], how: How) -> int:
    """Copies or links each photo into the folder of its class, of `unsure` or of `failed`; how many there are.

    A class that is called so itself keeps the name, and the other folder gets a `_` before it. What is there already,
    because a command was interrupted, is written again. Raises UsageError if the folder cannot be written.
    """
    apart = {status: f"_{status}" if status in classes else status for status in ("unsure", "failed")}
    folders = _folders([*classes, *apart.values()])
    count, taken = 0, set[Path]()
    try:
        for row in rows:
            source = paths[row.name]
            target = _free(folder / folders[apart.get(row.status, row.label)], _below(row.name), taken)
            if not source.is_file():  # a pipe or a folder has its row, and nothing to copy
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if how == "link":
                target.symlink_to(source.absolute())
            else:
                try:
                    copy_photo(source, target)
                except UnreadableError:  # damaged in its archive: it has its row, and nothing to copy
                    continue
            count += 1
    except OSError as error:
        raise UsageError(f"--sort-into {folder}: cannot be written ({error.strerror or error})") from None
    return count


def _folders(classes: Iterable[str]) -> dict[str, Path]:
    """A folder for each class; `mammal/fox` is a folder in a folder, no name leaves the place, no two are the same."""
    found: dict[str, Path] = {}
    for name in classes:
        parts = [NOT_IN_FOLDERS.sub("_", part) if part.strip(".") else "_" for part in name.split("/")]
        made, number = Path(*parts), 1
        while made in found.values():
            number += 1
            made = Path(*parts[:-1], f"{parts[-1]}-{number}")
        found[name] = made
    return found


def _below(name: str) -> PurePosixPath:
    """Where a photo lies in its folder: as below the folder that was given, else by its name alone."""
    path = PurePosixPath(name)
    return PurePosixPath(path.name) if path.is_absolute() or ".." in path.parts else path


def _free(folder: Path, name: PurePosixPath, taken: set[Path]) -> Path:
    """The photo's place; a second photo of that name gets a number."""
    target, number = folder / name, 1
    while target in taken:
        number += 1
        target = folder / name.with_stem(f"{name.stem}-{number}")
    taken.add(target)
    return target
