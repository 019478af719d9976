"""Output files of a command: never a photo, a file of a run, or the same file twice."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.model.description import DESCRIPTION_FILE, WEIGHTS_FILE
from fieldguide.run_folder import RunFolder

Output = str | Path | None
DEEPEST = 2  # files of a run are in its folder or one folder below


def demand_free_outputs(
    outputs: Mapping[str, Output], photos: Iterable[Path] = (), others: Mapping[str, Output] | None = None
) -> None:
    """Checks the outputs by option (`--json`; None: not wanted) against the inputs. Links are followed.

    `others` are inputs besides the photos, by what they are called ("the labels"). Raises UsageError that names each
    output that is a photo, another input, a file of a run or bundle, or another output.
    """
    wanted = {option: Path(path) for option, path in outputs.items() if path is not None}
    read = {what: Path(path) for what, path in (others or {}).items() if path is not None}
    problems = _doubles(wanted)
    there = {option: found for option, path in wanted.items() if (found := _identity(path)) is not None}
    identities = set(map(_identity, photos)) if there else set()  # a new file cannot be one of them
    for option, path in wanted.items():
        if option in there and there[option] in identities:
            problems.append(f"{option} {path}: is one of the photos; choose another file")
        problems += [
            f"{option} {path}: is {what}; choose another file" for what, other in read.items() if _is_same(path, other)
        ]
        if run := _run_that_owns(path):
            problems.append(f"{option} {path}: is a file of {run}; choose another file")
    if problems:
        raise UsageError(*dict.fromkeys(problems))


def _doubles(wanted: Mapping[str, Path]) -> list[str]:
    """Options that name the same file."""
    options, found = list(wanted), []
    for place, option in enumerate(options):
        if same := next((other for other in options[:place] if _is_same(wanted[option], wanted[other])), None):
            found.append(f"{same} and {option} {wanted[option]}: are the same file; choose two files")
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode behind all links; None: no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_same(one: Path, other: Path) -> bool:
    known = _identity(one)
    return os.path.realpath(one) == os.path.realpath(other) or (known is not None and known == _identity(other))


def _run_that_owns(path: Path) -> Path | None:
    """The run, bundle or export that a path belongs to, whether the file exists or not."""
    for place in _places(path):
        for folder in place.parents[:DEEPEST]:
            first = place.relative_to(folder).parts[0]
            if RunFolder(folder).owns(first) or ExportFolder(folder).owns(first):
                return folder
        if (place.parent / DESCRIPTION_FILE).is_file() and place.name in (DESCRIPTION_FILE, WEIGHTS_FILE):
            return place.parent
    return None


def _places(path: Path) -> Sequence[Path]:
    """The path in its own folder, and the path it links to."""
    named = Path(os.path.realpath(path.parent)) / path.name
    return list(dict.fromkeys((named, Path(os.path.realpath(path)))))
