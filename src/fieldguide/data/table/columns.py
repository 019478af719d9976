"""Which column of a table has the photos, which the labels, the parts and the groups."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fieldguide.data.read.formats import has_image_ending
from fieldguide.data.table.read import Table
from fieldguide.errors import UsageError

FILE = ("file", "image", "file_name", "filename", "path", "filepath", "image_path", "image_name", "img", "photo")
NAMES: Mapping[str, Sequence[str]] = {
    "file": FILE,
    "label": ("label", "labels", "class", "class_name", "category", "species"),
    "part": ("part", "split"),
    "group": ("group", "site", "station", "individual", "location"),
}
IDS = ("id", "image_id", "img_id", "photo_id", "file_id")  # photos where no other column names them
ROLES = tuple(NAMES)
LOOKED_AT = 500  # rows from which it is known whether a column names photos


@dataclass(frozen=True)
class Columns:
    """Names of columns; None: there is none."""

    file: str
    label: str | None
    part: str | None = None
    group: str | None = None

    def sentence(self) -> str:
        """`photos from file, labels from species, groups from site`."""
        told = (("photos", self.file), ("labels", self.label), ("parts", self.part), ("groups", self.group))
        return ", ".join(f"{what} from {_called(name)}" for what, name in told if name is not None)


def _called(name: str) -> str:
    return f"column {name}" if name.isdecimal() else name


def told_columns(text: str | None) -> dict[str, str]:
    """What `--columns label=species,group=camera` says; raises UsageError if it cannot be understood."""
    found: dict[str, str] = {}
    for piece in (text or "").split(","):
        role, _, name = (part.strip() for part in piece.partition("="))
        if not text or not piece.strip():
            continue
        if role not in ROLES or "=" not in piece or role in found:
            raise UsageError(f"--columns {text}: expected such as label=species,group=camera, of {', '.join(ROLES)}")
        found[role] = name
    return found


def is_heading(cells: Sequence[str]) -> bool:
    """Whether words of a first line are names of columns that are known."""
    words = {_plain(cell) for cell in cells}
    return bool(words & {*NAMES["file"], *NAMES["label"], *IDS}) and not any(map(has_image_ending, cells))


def heading_of(told: Mapping[str, str]) -> Callable[[Sequence[str]], bool]:
    """`is_heading`, also for the names that `--columns` told."""
    wanted = {name for name in told.values() if name and not name.isdecimal()}
    return lambda cells: is_heading(cells) or bool(wanted & {cell.strip() for cell in cells})


def choose_columns(
    table: Table, told: Mapping[str, str], is_photo: Callable[[str], bool], *, needs_labels: bool = True
) -> tuple[Table, Columns]:
    """The table with its heading known, and its columns by role.

    Args:
        table: with or without a heading.
        told: columns by role, as `told_columns` gives them; an empty name: this role has no column.
        is_photo: whether a text names a photo that is there.
        needs_labels: whether a table without labels is a mistake.

    Raises UsageError if the table could be read in two ways, with what was expected.
    """
    for role, name in told.items():
        if name and name not in table.columns and not (table.has_heading is None and name in _first_row(table)):
            there = (
                _list(table) if table.has_heading else f"{_list(table)}, or by line 1: {', '.join(_first_row(table))}"
            )
            raise UsageError(f"{table.name}: --columns {role}={name}: there is no such column; there are {there}")
    if table.has_heading is None:
        table = _with_known_heading(table, told, is_photo)
    file = told.get("file") or _file(table, told, is_photo)
    roles = {role: _role(table, role, told, file) for role in ("label", "part", "group")}
    if roles["label"] is None and "label" not in told:
        roles["label"] = _only_other(table, {file, roles["part"], roles["group"]}, told, needed=needs_labels)
    if needs_labels and not roles["label"]:
        raise UsageError(_expected(table, "labels", "label (or class, category, species)", "label"))
    return table, Columns(file, **roles)


def _first_row(table: Table) -> list[str]:
    return [column[0] for column in table.columns.values()]


def _with_known_heading(table: Table, told: Mapping[str, str], is_photo: Callable[[str], bool]) -> Table:
    """Decides whether the first row is a heading, by whether it names a photo."""
    first = _first_row(table)
    if any(name and not name.isdecimal() and name in first for name in told.values()):
        return table.with_heading()
    if any(is_photo(cell) for cell in first if cell):
        return table.without_heading()
    if any(_share(column[1:], is_photo) >= 0.5 for column in table.columns.values()):
        return table.with_heading()
    raise UsageError(
        f"{table.name}: {table.where(0)}: is no heading that is known and names no photo here: "
        f"{table.separator.join(first)[:80]!r}. Expected a heading such as file{table.separator}label, or "
        "--columns file=NAME,label=NAME; or say where the photos are: --photos FOLDER"
    )


def _share(values: Sequence[str], is_photo: Callable[[str], bool]) -> float:
    """The share of the first values that name photos."""
    looked = [value for value in itertools.islice(values, LOOKED_AT) if value]
    return sum(map(is_photo, looked)) / len(looked) if looked else 0.0


def _named(table: Table, names: Sequence[str], told: Mapping[str, str]) -> list[str]:
    """The columns that have one of these names."""
    return [name for name in table.columns if _plain(name) in names and name not in told.values()]


def _file(table: Table, told: Mapping[str, str], is_photo: Callable[[str], bool]) -> str:
    """The column of the photos: by its name; of several, or of none, by values that name photos; else an `id`."""
    by_name = _named(table, FILE, told)
    if len(by_name) == 1:
        return by_name[0]
    asked = by_name or [name for name in table.columns if name not in told.values()]
    found = [name for name in asked if _share(table.columns[name], is_photo) >= 0.5]
    found = found or by_name or _named(table, IDS, told)
    if len(found) > 1:
        names = " and ".join(map(_called, found))
        raise UsageError(f"{table.name}: {names} could both be the photos; say which: --columns file={found[0]}")
    if not found:
        raise UsageError(_expected(table, "photos", "file (or image, file_name, filename, path)", "file"))
    return found[0]


def _role(table: Table, role: str, told: Mapping[str, str], file: str) -> str | None:
    """The column of another role by its name; raises UsageError if there are two."""
    if role in told:
        return told[role] or None
    found = [name for name in _named(table, NAMES[role], told) if name != file] if table.has_heading else []
    if len(found) > 1:
        none = f", or none: --columns {role}=" if role != "label" else ""
        names = " and ".join(found)
        raise UsageError(
            f"{table.name}: {names} could both be the {role}s; say which: --columns {role}={found[0]}{none}"
        )
    return found[0] if found else None


def _only_other(table: Table, used: set[str | None], told: Mapping[str, str], *, needed: bool) -> str | None:
    """The one column that is left besides running numbers."""
    left = [name for name in table.columns if name not in used and name not in told.values()]
    if len(left) > 1:
        left = [name for name in left if not _is_running(table.columns[name])]
    if len(left) > 1 and needed:
        raise UsageError(_expected(table, "labels", "label (or class, category, species)", "label"))
    return left[0] if len(left) == 1 else None


def _is_running(values: Sequence[str]) -> bool:
    """Whether these are 0, 1, 2, as an index is; labels are not."""
    looked = [value for value in itertools.islice(values, LOOKED_AT) if value]
    if len(looked) < 2 or not all(value.isdecimal() for value in looked):
        return False
    numbers = list(map(int, looked))
    return all(after == before + 1 for before, after in itertools.pairwise(numbers))


def _expected(table: Table, what: str, names: str, role: str) -> str:
    return (
        f"{table.name}: no column for the {what}: expected {names} among {_list(table)}; say which: "
        f"--columns {role}=NAME"
    )


def _list(table: Table) -> str:
    names = list(table.columns)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if names[12:] else "")


def _plain(name: str) -> str:
    return "_".join(name.strip().casefold().replace("-", " ").split()).replace(".", "_")
