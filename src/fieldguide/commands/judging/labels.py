"""The classes of a flat test folder, from a CSV."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fieldguide.data.look.scan import Photo, PhotoFolder
from fieldguide.errors import UsageError, counted, listing


def read_labels(path: Path) -> dict[str, str]:
    """Class by name, from the second and first column below a heading; raises UsageError if the CSV is damaged."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise UsageError(f"--labels {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--labels {path}: cannot be read as CSV ({error})") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) < 2 or found.setdefault(line[0], line[1]) != line[1]:
            wrong = f"class missing, or conflicts with an earlier line: {line}"
            raise UsageError(f"--labels {path}: line {number}: {wrong}")
    return found


def with_labels(folder: PhotoFolder, labels: Mapping[str, str], path: Path) -> PhotoFolder:
    """The same folder with classes for its test photos.

    Raises UsageError if there is no flat test folder, a photo has no label, or a label fits two photos.
    """
    test = folder.part("test")
    if not test or folder.test_is_labelled:
        raise UsageError(f"--labels {path}: {folder.root} has no flat test/ folder to label")
    labelled, without = [], []
    named: dict[str, list[str]] = {}
    for photo in test:
        name = next((name for name in _names_of(photo) if name in labels), None)
        if name is None:
            without.append(photo.file)
        else:
            named.setdefault(name, []).append(photo.file)
            labelled.append(replace(photo, class_name=labels[name]))
    if several := [f"{name}: {' and '.join(files[:2])}" for name, files in named.items() if len(files) > 1]:
        raise UsageError(
            f"--labels {path}: {counted(len(several), 'name')} fit more than one photo:\n{listing(several)}\n"
            f"Write the path below {test[0].file.partition('/')[0]}/, with folder and ending"
        )
    if without:
        raise UsageError(f"--labels {path}: no class for {len(without):,} of {len(test):,} photos:\n{listing(without)}")
    others = tuple(photo for photo in folder.photos if photo.part != "test")
    return replace(folder, photos=(*others, *labelled), test_is_labelled=True)


def _names_of(photo: Photo) -> tuple[str, str, str]:
    """Names that a CSV may use for a test photo: path below test/, file name, file name without ending."""
    path = PurePosixPath(photo.file)
    return str(path.relative_to(path.parts[0])), path.name, path.stem


def labels_of_nothing(folder: PhotoFolder, labels: Mapping[str, str]) -> list[str]:
    """A sentence if some labels fit no test photo, else none."""
    known = {name for photo in folder.part("test") for name in _names_of(photo)}
    unused = [name for name in labels if name not in known]
    return [f"{counted(len(unused), 'label')} without a photo here, such as {unused[0]}"] if unused else []
