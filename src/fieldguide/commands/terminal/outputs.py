"""Files that a command is told to write: never a photo, nor what a run has written, nor the same one twice."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fieldguide.errors import UsageError
from fieldguide.model.bundle import DESCRIPTION_FILE, WEIGHTS_FILE
from fieldguide.run_folder import RunFolder

Output = str | Path | None
DEEPEST = 2  # a file of a run lies in it, or in one of its folders


def demand_free_outputs(
    outputs: Mapping[str, Output], photos: Iterable[Path] = (), others: Mapping[str, Output] | None = None
) -> None:
    """Holds what is to be written against what is read, before anything is computed.

    Links are followed, so that another name of a file is the file.

    Args:
        outputs: options (`--json`) with their files; None: not wanted.
        photos: that the command reads.
        others: what else it reads, with what it is called ("the labels").

    Raises:
        UsageError: one of the outputs is a photo, something else that is read, a file of a run or of a bundle, or
            another output; all of them named.
    """
    wanted = {option: Path(path) for option, path in outputs.items() if path is not None}
    read = {what: Path(path) for what, path in (others or {}).items() if path is not None}
    problems = _doubles(wanted)
    there = {option: found for option, path in wanted.items() if (found := _identity(path)) is not None}
    identities = set(map(_identity, photos)) if there else set()  # a new file is none of them
    for option, path in wanted.items():
        if option in there and there[option] in identities:
            problems.append(f"{option} {path}: is one of the photos; give another file")
        problems += [
            f"{option} {path}: is {what}; give another file" for what, other in read.items() if _is_same(path, other)
        ]
        if run := _run_that_owns(path):
            problems.append(f"{option} {path}: is a file of {run} itself; give another file")
    if problems:
        raise UsageError(*dict.fromkeys(problems))


def _doubles(wanted: Mapping[str, Path]) -> list[str]:
    """Options that name one file."""
    options, found = list(wanted), []
    for place, option in enumerate(options):
        same = next((other for other in options[:place] if _is_same(wanted[option], wanted[other])), None)
        if same is not None:
            found.append(f"{same} and {option} {wanted[option]}: are the same file; give each a file of its own")
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode behind all links; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_same(one: Path, other: Path) -> bool:
    known = _identity(one)
    return os.path.realpath(one) == os.path.realpath(other) or (known is not None and known == _identity(other))


def _run_that_owns(path: Path) -> Path | None:
    """The run, or the bundle without one, among whose own files a path is, be the file there or not."""
    for place in _places(path):
        for folder in place.parents[:DEEPEST]:
            if RunFolder(folder).owns(place.relative_to(folder).parts[0]):
                return folder
        if (place.parent / DESCRIPTION_FILE).is_file() and place.name in (DESCRIPTION_FILE, WEIGHTS_FILE):
            return place.parent
    return None


def _places(path: Path) -> Sequence[Path]:
    """Where a path is in its own folder, and where it leads."""
    named = Path(os.path.realpath(path.parent)) / path.name
    return list(dict.fromkeys((named, Path(os.path.realpath(path)))))
