"""A table of labels and the photos that it names, as a folder of photos."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

from fieldguide.data.look.files import images_below, is_image, problem_with_folder, relative_name
from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.look.layout import VALIDATION_NAMES
from fieldguide.data.look.scan import Listed, Photo, PhotoFolder
from fieldguide.data.look.source import Source
from fieldguide.data.table.columns import Columns, choose_columns, heading_of, told_columns
from fieldguide.data.table.match import Names, shared_folder
from fieldguide.data.table.read import Table, read_table
from fieldguide.errors import PhotosError, UsageError, counted, listing

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys((*VALIDATION_NAMES, "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "excluded": "excluded",  # in a run's split.csv
}


@dataclass(frozen=True)
class Rows:
    """The rows of a table, column by column; a part or group is empty where there is none."""

    table: Table
    columns: Columns
    names: Sequence[str]
    labels: Sequence[str]
    parts: Sequence[str]
    groups: Sequence[str]

    def place(self, row: int) -> str:
        """`line 12: photo.jpg`."""
        return f"{self.table.where(row)}: {self.names[row]}"


@dataclass
class _Found:
    """Which rows name which photo; all that fits nothing."""

    first: dict[int, int] = field(default_factory=dict)  # the first row, by the place of a file
    more: dict[int, list[int]] = field(default_factory=dict)  # the others
    missing: list[int] = field(default_factory=list)
    ambiguous: list[tuple[int, list[int]]] = field(default_factory=list)

    def add(self, place: int, row: int) -> None:
        """A row that names the file at a place."""
        if self.first.setdefault(place, row) != row:
            self.more.setdefault(place, []).append(row)

    def rows(self, place: int) -> list[int]:
        """The rows that name the file at a place."""
        return [self.first[place], *self.more.get(place, ())] if place in self.first else []


def rows_of(path: Path, columns: str | None, names: Names, what: str = "", *, needs_labels: bool = True) -> Rows:
    """Reads a table whose photos are among `names`; `what` is how messages call it.

    Raises UsageError if it cannot be read, or only in two ways.
    """
    told = told_columns(columns)
    raw = read_table(path, heading_of(told), what)
    table, chosen = choose_columns(raw, told, lambda text: bool(names.find(text)), needs_labels=needs_labels)
    height = table.height
    if not height:
        raise UsageError(f"{table.name}: has a heading and no rows")

    def column(name: str | None) -> Sequence[str]:
        return list(repeat("", height)) if name is None else table.columns[name]

    rows = Rows(table, chosen, table.columns[chosen.file], *map(column, (chosen.label, chosen.part, chosen.group)))
    _demand_labels_on_a_line(rows)
    return rows


def _demand_labels_on_a_line(rows: Rows) -> None:
    """Raises UsageError for labels with line breaks, tabs or zero bytes, which come from quotes that never end."""
    odd = {label for label in set(rows.labels) if CONTROL.search(label)}
    if odd:
        found = [f"{rows.place(row)}: {label!r}" for row, label in enumerate(rows.labels) if label in odd]
        raise UsageError(
            f"{rows.table.name}: {counted(len(found), 'label')} with a line break, a tab or the like:\n"
            f"{listing(found)}\nExpected a label on one line; look for a quotation mark that is not closed"
        )


def matched(rows: Rows, names: Names, files: Sequence[str]) -> _Found:
    """Which photo each row names; raises UsageError if a row has no name or fits two photos."""
    found = _Found()
    before: str | None = None
    for row, name in enumerate(rows.names):
        place = names.whole(name)
        if place is None:
            before = shared_folder(rows.names) if before is None else before
            place = _other(rows, row, names.find(name, before), found)
        if place is not None:
            found.add(place, row)
    known = set(found.first)
    unclear = []
    for row, places in found.ambiguous:
        left = [place for place in places if place not in known]
        if len(left) == 1:  # all others have a row that names them alone
            found.add(left[0], row)
        else:
            unclear.append(f"{rows.place(row)} could be {' or '.join(files[place] for place in places[:2])}")
    if unclear:
        raise UsageError(
            f"{rows.table.name}: {counted(len(unclear), 'name')} fit more than one photo:\n{listing(unclear)}\n"
            "Write the path below the photos' folder, with folders and ending"
        )
    return found


def _other(rows: Rows, row: int, places: list[int], found: _Found) -> int | None:
    """The photo of a row that names none by its whole path; None if there is none, or several, which is noted."""
    if len(places) == 1:
        return places[0]
    if places:
        found.ambiguous.append((row, places))
    elif rows.names[row]:
        found.missing.append(row)
    elif rows.labels[row]:
        where = f"{rows.table.name}: {rows.table.where(row)}"
        raise UsageError(f"{where}: a label ({rows.labels[row]}) without a photo's name")
    return None


def scan_table(source: Source, folder: Path) -> PhotoFolder:
    """The photos that a table names, with the labels, parts and groups that it gives them.

    `folder` is where its names are; if none is there, but names are absolute and exist, these are taken. Raises
    UsageError if the table cannot be read, PhotosError if it names no photo that exists.
    """
    if problem := problem_with_folder(folder):
        raise UsageError(problem)
    below = images_below(folder)
    place = _Place(folder, below.images)
    names = Names(place.files)
    rows = rows_of(source.path, source.columns, names)
    found = matched(rows, names, place.files)
    remarks = [Remark(Topic.LAYOUT, sentence) for sentence in rows.table.remarks]
    if not found.first and source.photos is None and (elsewhere := _absolute(rows.names)):
        place = elsewhere
        found = matched(rows, Names(place.files), place.files)
    else:
        remarks += below.remarks(folder)
    if not found.first:
        raise PhotosError(
            f"{source.path}: no photo of {counted(len(rows.names), 'row')} is below {folder} "
            f"({len(place.files):,} photos are there):\n{listing([rows.place(row) for row in found.missing[:10]])}\n"
            "Say where the photos are: --photos FOLDER"
        )
    photos, listed = _photos(rows, found, place, everywhere=source.photos is not None)
    photos, without, labelled = _test_as_a_whole(photos)
    listed = replace(listed, unlabelled=(*listed.unlabelled, *without))
    inside = source.path.resolve().is_relative_to(folder.resolve())  # the table is none of the other files
    return PhotoFolder(
        root=place.root,
        photos=tuple(photos),
        has_validation=any(photo.part == "val" for photo in photos),
        test_is_labelled=labelled,
        others=below.others - inside,
        remarks=tuple(remarks),
        listed=listed,
        source=source,
    )


class _Place:
    """Photos in a folder, with their names below it."""

    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self.root, self.images = root, images
        self.files = [relative_name(path, root) for path in images]


def _absolute(names: Iterable[str]) -> _Place | None:
    """Photos with absolute names that exist, all photos beside them, and the folder that holds them all."""
    there = [Path(name) for name in names if Path(name).is_absolute()]
    folders = sorted({path.parent for path in there if path.is_file()})
    if not folders:
        return None
    root = Path(os.path.commonpath(folders))
    inside = (Path(entry.path) for folder in folders for entry in os.scandir(folder) if entry.is_file())
    return _Place(root, sorted((path for path in inside if is_image(path)), key=lambda path: path.parts))


def _photos(rows: Rows, found: _Found, place: _Place, *, everywhere: bool) -> tuple[list[Photo], Listed]:
    """The photos in the order of their names, and what fits nothing.

    `everywhere`: photos without a label count in all of the folder; else only in folders that hold photos of the table.
    """
    photos: list[Photo] = []
    twice: list[str] = []
    without: list[str] = []
    excluded = 0
    tops = {_top(place.files[at]) for at in found.first}
    for at, (path, file) in enumerate(zip(place.images, place.files, strict=True)):
        mine = found.rows(at)
        if not mine:
            if everywhere or _top(file) in tops:
                without.append(file)
            continue
        labels = list(dict.fromkeys(rows.labels[row] for row in mine if rows.labels[row]))
        part = _one_of(rows, mine, "part", [_part(rows, row) for row in mine])
        group = _one_of(rows, mine, "group", [rows.groups[row] for row in mine])
        if part == "excluded":
            excluded += 1
        elif len(labels) > 1:
            twice.append(f"{file}: {', '.join(f'{rows.labels[row]} in {rows.table.where(row)}' for row in mine[:3])}")
        elif not labels and part != "test":
            without.append(file)
        else:
            photos.append(Photo(path, file, part, labels[0] if labels else None, group))
    missing = tuple(rows.place(row) for row in found.missing)
    return photos, Listed(rows.columns.sentence(), missing, tuple(without), tuple(twice), excluded)


def _top(file: str) -> str:
    """The first folder of a name; empty if it is in none."""
    return file.split("/", 1)[0] if "/" in file else ""


def _part(rows: Rows, row: int) -> str:
    told = rows.parts[row]
    if rows.columns.part is None:
        return "train"
    part = PARTS.get(told.lower())
    if part is None:
        raise UsageError(
            f"{rows.table.name}: {rows.place(row)}: {rows.columns.part} is {told!r}; expected train, val or test. If "
            "this column has no parts, leave it out: --columns part="
        )
    return part


def _one_of(rows: Rows, mine: Sequence[int], what: str, values: Sequence[str]) -> str:
    """What all rows of a photo say; raises UsageError if they differ."""
    if len(set(values)) > 1:
        places = " and ".join(
            f"{value or 'none'} in {rows.table.where(row)}" for row, value in list(zip(mine, values, strict=True))[:2]
        )
        raise UsageError(f"{rows.table.name}: {rows.names[mine[0]]}: has two {what}s, {places}; correct one of them")
    return values[0]


def _test_as_a_whole(photos: list[Photo]) -> tuple[list[Photo], list[str], bool]:
    """Test photos all with labels or all without; gives also those that are left out for it."""
    test = [photo for photo in photos if photo.part == "test"]
    if not any(photo.class_name for photo in test):
        return photos, [], False
    kept = [photo for photo in photos if photo.part != "test" or photo.class_name]
    return kept, [photo.file for photo in test if not photo.class_name], True
