"""The photos of a prediction: files, folders, archives, lists, patterns, standard input, and what Python has open."""

import contextlib
import glob
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldguide.data.look.files import images_below, is_image, relative_name
from fieldguide.data.look.find import is_archive_file, is_table, opened
from fieldguide.data.table.columns import choose_columns, heading_of
from fieldguide.data.table.match import tidy
from fieldguide.data.table.read import read_table
from fieldguide.deploy.photos import OpenFile
from fieldguide.errors import UsageError
from fieldguide.storage import printable

STDIN = "-"
LISTS = (".txt", ".lst", ".list")
Image = str | Path | bytes | bytearray | memoryview | OpenFile
Tell = Callable[[str], None]


@dataclass
class Inputs:
    """What is to be predicted: photos with the names of their rows, in a stable order.

    `others` counts files that are no photos, `lists` has the files with lists, by what they are called, `folders` those
    that were given.
    """

    photos: list[tuple[str, Image]] = field(default_factory=list)
    others: int = 0
    remarks: list[str] = field(default_factory=list)
    lists: dict[str, str | Path | None] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)


def gather(images: Image | Sequence[Image], tell: Tell = lambda _: None) -> Inputs:
    """Finds all photos; raises UsageError if there are none, or that names each path that does not exist."""
    given = [images] if isinstance(images, Image) or not isinstance(images, Iterable) else list(images)
    if (odd := next((one for one in given if not isinstance(one, Image)), given)) is not given:
        raise UsageError(f"images: must be paths, bytes or open files, not {type(odd).__name__}")
    missing = [problem for one in given if isinstance(one, str | Path) and (problem := _problem_with_input(Path(one)))]
    if missing:
        raise UsageError(*missing)
    found = Inputs()
    for number, one in enumerate(given, start=1):
        if isinstance(one, str | Path):
            _add_path(found, Path(one), tell)
        else:
            found.photos.append((_name_of(one, number), one))
    if not found.photos:
        told = ", ".join(str(one) for one in given)
        raise UsageError(f"no photos in {told} ({found.others:,} files without an image ending)", *found.remarks)
    return found


def _add_path(found: Inputs, path: Path, tell: Tell) -> None:
    if str(path) == STDIN:
        found.photos += _listed(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"), Path(), "standard input")
    elif path.is_dir() or is_archive_file(path):
        folder = opened(path, tell)
        found.folders.append(folder)
        below = images_below(folder)
        named = [(relative_name(image, folder), image) for image in below.images]
        _demand_different_names(path, [name for name, _ in named])
        found.photos += named
        found.others += below.others
        found.remarks += [remark.sentence for remark in below.remarks(folder)]
    elif is_table(path):
        found.lists[f"the list {path}"] = path
        found.photos += _of_list(path)
    elif _is_pattern(path):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 (Path.glob takes no absolute one)
        found.photos += [(printable(str(file)), file) for file in files if is_image(file) and file.is_file()]
        found.others += sum(file.is_file() and not is_image(file) for file in files)
    else:
        found.photos.append((printable(str(path)), path))


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _problem_with_input(path: Path) -> str | None:
    try:
        if str(path) == STDIN or path.exists():
            return None
        if not glob.has_magic(str(path)):
            return f"{path}: there is no such file or folder"
        fits = any(glob.iglob(str(path), recursive=True))  # noqa: PTH207
        return None if fits else f"{path}: no file fits this pattern"
    except OSError as error:  # a name that is too long, a folder that cannot be entered
        return f"{path}: cannot be read ({error.strerror})"


def _name_of(image: bytes | bytearray | memoryview | OpenFile, number: int) -> str:
    """The name of a row: that of an open file, or the photo's number."""
    name = getattr(image, "name", None)
    return printable(name) if isinstance(name, str) else f"photo {number}"


def _of_list(path: Path) -> list[tuple[str, Image]]:
    """The photos of a text with one name per line, or of a table's column of photos."""
    if path.suffix.lower() in LISTS:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if all(is_image(Path(tidy(line))) for line in lines):
            return _listed(text, path.parent, str(path))
    where = _Places(path.parent)
    table, columns = choose_columns(
        read_table(path, heading_of({})), {}, lambda name: where.is_photo(name), needs_labels=False
    )
    return _photos((name for name in table.columns[columns.file] if name), where, str(path))


def _listed(text: str, folder: Path, what: str) -> list[tuple[str, Image]]:
    """One name per line, or separated by zero bytes as `find -print0` writes them."""
    lines = text.split("\0") if "\0" in text else text.splitlines()
    return _photos((line.strip("\r\n") for line in lines if line.strip()), _Places(folder), what)


def _photos(names: Iterable[str], where: "_Places", what: str) -> list[tuple[str, Image]]:
    """Photos by name; one that is missing keeps its row, unless all are."""
    found: list[tuple[str, Image]] = []
    for name in dict.fromkeys(names):
        found.append((printable(name.strip()), where.find(name)))
    if found and not any(isinstance(path, Path) and path.exists() for _, path in itertools.islice(found, 1_000)):
        raise UsageError(f"{what}: none of its photos exists, such as {found[0][0]}; names are relative to {where}")
    return found


class _Places:
    """Where the names of a list are: relative to its folder, or to the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        here = Path.cwd()
        return str(here) if self.folder.resolve() == here else f"{self.folder} or {here}"

    def find(self, name: str) -> Path:
        for said in (name, name.strip(), tidy(name.strip())):
            for place in (self.folder / said, Path(said)):
                with contextlib.suppress(OSError):  # a name that is too long
                    if place.exists():
                        return place
        return self.folder / name.strip()

    def is_photo(self, name: str) -> bool:
        return is_image(Path(tidy(name))) or self.find(name).is_file()


def _demand_different_names(folder: Path, names: Sequence[str]) -> None:
    """Bytes that are not UTF-8 are written as `\\xNN`, which may be the name of another file."""
    if len(set(names)) < len(names):
        same = next(name for name, count in Counter(names).items() if count > 1)
        raise UsageError(f"{folder}: two files would both be written as {same}; rename one of them")
