"""What folders mean: parts or classes, and which of nested folders is the class. Looks at names only."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fieldguide.data.look.files import entries, is_folder, is_image
from fieldguide.data.look.findings import Remark, Topic, some
from fieldguide.data.look.passed_over import is_passed_over
from fieldguide.errors import PhotosError, counted
from fieldguide.storage import printable

VALIDATION_NAMES = ("val", "valid", "validation")
NAMES_OF_PARTS = ("train", "test", "val", "dev", "eval", "holdout")  # how they begin
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")


def folders_in(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are looked into, by name."""
    return {entry.name: entry for entry in entries(folder) if is_folder(entry) and not is_passed_over(entry.name)}


def holds_photos(folder: Path) -> bool:
    """Whether photos lie directly in it."""
    return any(is_image(entry) and not is_folder(entry) for entry in entries(folder))


def parts_in(root: Path, folders: Mapping[str, Path], *, is_for_training: bool) -> dict[str, Path]:
    """The folders called train, val and test; empty where the classes lie in the root.

    A train/ without class folders, beside other folders, is a class. Raises PhotosError if two folders are the same
    part, or if there is no train/ for a training.
    """
    found: dict[str, Path] = {}
    for name, folder in folders.items():
        lowered = name.lower()
        part = "val" if lowered in VALIDATION_NAMES else lowered
        if part not in ("train", "val", "test"):
            continue
        if part in found:
            raise PhotosError(
                f"{root}: {found[part].name}/ and {name}/ both look like the {part} photos; rename one of them"
            )
        found[part] = folder
    beside = len(folders) > len(found)
    if "train" in found:
        return {} if beside and holds_photos(found["train"]) and not folders_in(found["train"]) else found
    if not found or beside:
        return {}
    if not is_for_training:
        return found
    raise PhotosError(
        f"{root}: has {', '.join(f.name + '/' for f in found.values())} but no train/; "
        "put the training photos into train/CLASS/"
    )


def about_classes(root: Path, folders: Mapping[str, Path], class_folder: str) -> list[Remark]:
    """Remarks on class folders that are called or look like parts; PhotosError if they do both."""
    if class_folder != "first":
        return []
    named = [
        Remark(
            Topic.LAYOUT,
            f"{name}/ is used as a class, because there is no train/ with class folders beside it",
            (name,),
        )
        for name in folders
        if name.lower() in ("train", "test", *VALIDATION_NAMES)
    ]
    shared: set[str] = set()
    for place, folder in enumerate(folders.values()):
        if holds_photos(folder):
            return named
        names = {printable(name) for name in folders_in(folder)}
        shared = names if place == 0 else shared & names
    if len(folders) < 2 or len(shared) < 2:
        return named
    what = f"{some([f'{name}/' for name in folders])} hold the same folders ({some(sorted(shared))})"
    if all(name.lower().startswith(NAMES_OF_PARTS) for name in folders):
        raise PhotosError(f"{root}: {what}, so they are parts, not classes; call them train/, val/ and test/")
    words = f"{what} and are used as classes; if they are parts, call them train/, val/ and test/"
    return [*named, Remark(Topic.LAYOUT, words, tuple(folders))]


def class_of(folders: Sequence[str], class_folder: str) -> str:
    """The class of a photo in these folders below its part: the first, the last, or all of them."""
    if class_folder == "path":
        return "/".join(folders)
    return folders[-1 if class_folder == "last" else 0]


def about_nesting(places: Iterable[Sequence[str]]) -> list[Remark]:
    """A remark if class folders hold only folders, with the classes of each reading.

    `places` are the folders of each training photo below its part, where the first is its class.
    """
    known = list(dict.fromkeys(map(tuple, places)))
    flat = {folders[0] for folders in known if len(folders) == 1}
    nested = sorted({folders[0] for folders in known} - flat)
    if not nested:
        return []
    first, last, path = (
        sorted({class_of(folders, reading) for folders in known}) for reading in ("first", "last", "path")
    )
    words = (
        f"{some([f'{name}/' for name in nested])} {'hold' if nested[1:] else 'holds'} only folders. The first folder "
        f"is used as the class: {counted(len(first), 'class')} ({some(first)}). With the last one there would be "
        f"{len(last):,} ({some(last)}): --set data.class_folder=last"
    )
    if len(path) > len(last):
        words += f"; with the whole path {len(path):,} ({some(path, 2)}): --set data.class_folder=path"
    return [Remark(Topic.LAYOUT, words, tuple(nested))]


def tables_in(root: Path) -> str:
    """A hint if a table of labels lies in a folder without classes; else empty."""
    found = [entry for entry in entries(root) if entry.suffix.lower() in TABLES and not entry.name.startswith(".")]
    return f". There is a table in it; if it has the labels: give {found[0]} instead of the folder" if found else ""
