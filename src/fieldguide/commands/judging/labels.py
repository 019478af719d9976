"""The classes of photos without class folders, from a table."""

from dataclasses import replace
from pathlib import Path

from fieldguide.data.look.find import find_photos
from fieldguide.data.look.listed import matched, rows_of, scan_table
from fieldguide.data.look.scan import Listed, PhotoFolder
from fieldguide.data.look.source import Source
from fieldguide.data.table.match import Names
from fieldguide.errors import PhotosError, UsageError, counted, listing


def find_labelled(source: Source, labels: Path | None, columns: str | None) -> tuple[PhotoFolder, list[str]]:
    """The photos of an evaluation, with classes from `--labels` if that is given, and remarks on these."""
    if labels is None:
        return find_photos(source), []
    try:
        folder = find_photos(replace(source, columns=None))
    except PhotosError:
        if not source.path.is_dir():
            raise
        flat = scan_table(replace(source, path=labels, photos=source.path, columns=columns), source.path)
        return _all_as_test(flat), []
    return with_labels(folder, labels, columns)


def _all_as_test(folder: PhotoFolder) -> PhotoFolder:
    """Photos without folders of parts are test photos, unless the table says otherwise."""
    if any(photo.part != "train" for photo in folder.photos):
        return folder
    return replace(folder, photos=tuple(replace(photo, part="test") for photo in folder.photos), test_is_labelled=True)


def with_labels(folder: PhotoFolder, path: Path, columns: str | None = None) -> tuple[PhotoFolder, list[str]]:
    """The same folder with classes for its test photos, and a sentence on labels of no photo.

    Raises UsageError if there is no flat test folder, a photo has no label or two, or a name fits two photos.
    """
    what, test = f"--labels {path}", folder.part("test")
    if not test or folder.test_is_labelled:
        raise UsageError(f"{what}: {folder.root} has no flat test/ folder to label")
    files = [photo.file for photo in test]
    names = Names(files)
    rows = rows_of(path, columns, names, what)
    found = matched(rows, names, files)
    given = {place: {rows.labels[row]: row for row in found.rows(place)} for place in found.first}
    for labels in given.values():
        labels.pop("", None)
    if twice := [
        f"{files[place]}: {' and '.join(f'{label} in {rows.table.where(row)}' for label, row in labels.items())}"
        for place, labels in given.items()
        if len(labels) > 1
    ]:
        raise UsageError(
            f"{what}: {counted(len(twice), 'photo')} with two labels:\n{listing(twice)}\nCorrect the table"
        )
    if without := [file for place, file in enumerate(files) if not given.get(place)]:
        raise UsageError(f"{what}: no class for {len(without):,} of {len(test):,} photos:\n{listing(without)}")
    labelled = [replace(photo, class_name=next(iter(given[place]))) for place, photo in enumerate(test)]
    others = tuple(photo for photo in folder.photos if photo.part != "test")
    unused = [rows.names[row] for row in found.missing]
    without = [f"{counted(len(unused), 'label')} without a photo here, such as {unused[0]}"] if unused else []
    listed = Listed(rows.columns.sentence())
    made = replace(folder, photos=(*others, *labelled), test_is_labelled=True, listed=listed)
    return made, [*without, *rows.table.remarks]
