"""Which photos of a folder an evaluation takes: a part of its own, one of the run's split, or all."""

from collections.abc import Sequence
from pathlib import Path

from fieldguide.data.scan import Photo, PhotoFolder, natural
from fieldguide.data.split import Split
from fieldguide.errors import PhotosError, UsageError, counted

PARTS = ("test", "val", "train")
ALL = "all"


def choose_part(folder: PhotoFolder, split: Split | None, part: str | None) -> tuple[str, list[Photo], list[str]]:
    """Which photos to evaluate.

    Returns:
        The part's name, its photos, and remarks.

    Raises:
        UsageError: the part asked for does not exist.
    """
    if part is None:
        part = "test" if folder.test_is_labelled else "val"
        if part == "val" and not folder.has_validation and not _in_split(folder, split, "val"):
            return _all_of(folder, split)
    if part == "test" and not folder.test_is_labelled:
        raise UsageError(f"--part test: {folder.root} has no test/ folder with a folder a class")
    if (part == "val" and folder.has_validation) or part == "test":
        return part, folder.part(part), []
    found = _in_split(folder, split, part)
    if found:
        return part, found, [f"the {part} photos are those of the run's split"] if not folder.has_validation else []
    if part == "train" and folder.has_validation:
        return part, folder.part("train"), []
    where = "the run's split names none of its photos" if split else "there is no split beside the bundle"
    raise UsageError(f"--part {part}: {folder.root} has no {part} folder, and {where}")


def _in_split(folder: PhotoFolder, split: Split | None, part: str) -> list[Photo]:
    if split is None:
        return []
    wanted = {row.file for row in split.part(part)}
    return [photo for photo in folder.photos if photo.file in wanted and photo.class_name is not None]


def _all_of(folder: PhotoFolder, split: Split | None) -> tuple[str, list[Photo], list[str]]:
    photos = folder.part("train")
    if split is None:
        text = "this bundle does not know its training photos; if these were among them, the figures are too high"
        return ALL, photos, [text]
    return ALL, photos, []


def common_split(splits: Sequence[Split | None], folder: PhotoFolder, part: str | None) -> Split | None:
    """The split of all runs.

    Raises:
        UsageError: theirs differ, and the folder has no part of its own to evaluate.
    """
    if len({None if split is None else split.fingerprint() for split in splits}) == 1:
        return splits[0]
    own = {"test": folder.test_is_labelled, "val": folder.has_validation, "train": False}
    if not (own[part] if part else own["test"] or own["val"]):
        raise UsageError(
            f"the runs were trained on different splits, so that what is {part or 'validation'} for one was trained on "
            "by another; evaluate them on labelled test photos, or on a val/ folder that none was trained on"
        )
    return None


def demand_known_classes(photos: Sequence[Photo], classes: Sequence[str], root: Path) -> None:
    """Holds photos against the classes that the model knows.

    Raises:
        PhotosError: it does not know some; they are named.
    """
    unknown = sorted({photo.class_name or "" for photo in photos} - set(classes), key=natural)
    if unknown:
        raise PhotosError(
            f"{root}: {counted(len(unknown), 'class')} that the model does not know: {', '.join(unknown[:10])}"
            f"{' ...' if len(unknown) > 10 else ''}; it knows {len(classes)}, such as {', '.join(classes[:5])}"
        )
