"""The photos that a person asks for: in a folder, from a table of labels, or in an archive."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fieldguide.data.look.files import problem_with_folder
from fieldguide.data.look.layout import folders_in, holds_photos
from fieldguide.data.look.listed import scan_table
from fieldguide.data.look.scan import PhotoFolder, scan
from fieldguide.data.look.source import Source
from fieldguide.data.read.archive import is_archive
from fieldguide.data.read.archive_cache import as_folder
from fieldguide.data.read.formats import format_of
from fieldguide.data.table.read import looks_like_table
from fieldguide.errors import UsageError

WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
Tell = Callable[[str], None]


def find_photos(source: Source, tell: Tell = lambda _: None) -> PhotoFolder:
    """Finds photos with their classes and parts; looks at names only.

    Raises UsageError if there is nothing, PhotosError if the layout, the table or the archive cannot be understood.
    """
    if problem := problem_with_source(source):
        raise UsageError(problem)
    if is_table(source.path):
        folder = source.path.parent if source.photos is None else opened(source.photos, tell)
        return scan_table(source, folder)
    root = opened(source.path, tell)
    if root != source.path:
        root = _where_photos_begin(root)
    return replace(scan(root, source.class_folder, is_for_training=source.is_for_training), source=source)


def _where_photos_begin(folder: Path) -> Path:
    """An archive often holds one folder that holds all others."""
    while len(inside := list(folders_in(folder).values())) == 1 and not holds_photos(folder):
        if holds_photos(inside[0]) or not folders_in(inside[0]):
            break
        folder = inside[0]
    return folder


def is_table(path: Path) -> bool:
    """Whether it is a file that is called like a table, and holds no photo."""
    return looks_like_table(path) and path.is_file() and not _begins_as_photo(path)


def _begins_as_photo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return format_of(file.read(64)) is not None
    except OSError:
        return False


def problem_with_source(source: Source) -> str | None:
    """Why photos cannot be read as asked for; None if they can."""
    try:
        is_file = source.path.is_file()
    except OSError:  # said below
        is_file = False
    table = is_file and is_table(source.path)
    try:
        source.demand_no_idle_option(table)
    except UsageError as error:
        return str(error)
    if table:
        place = source.photos
        return None if place is None or is_archive_file(place) else problem_with_folder(place)
    if is_file and is_archive(source.path):
        return None
    if is_file and source.path.suffix.lower() in WORKBOOKS:
        return f"{source.path}: is a workbook; save its table as CSV, and give that"
    if is_file:
        return (
            f"{source.path}: is a file; give the folder that holds the photos, a table of labels (.csv, .tsv, .txt, "
            ".parquet, .jsonl, .json), or an archive (.zip, .tar)"
        )
    if (looks_like_table(source.path) or is_archive(source.path)) and not source.path.exists():
        return f"{source.path}: there is no such file"
    return problem_with_folder(source.path)


def is_archive_file(path: Path) -> bool:
    """Whether it is a file that is called like an archive."""
    return is_archive(path) and path.is_file()


def opened(path: Path, tell: Tell) -> Path:
    """A folder as it is; the one that stands for an archive."""
    return as_folder(path, tell) if is_archive_file(path) else path
