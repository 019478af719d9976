"""Which photos of a folder an evaluation takes: a part of its own, one of the run's split, or all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldguide.data.look.inspect import inspect
from fieldguide.data.look.scan import Photo, PhotoFolder, natural
from fieldguide.data.split.partition import Split
from fieldguide.errors import PhotosError, UsageError, counted, listing

PARTS = ("test", "val", "train")
ALL = "all"


def choose_part(folder: PhotoFolder, split: Split | None, part: str | None) -> tuple[str, list[Photo], list[str]]:
    """Which photos to evaluate.

    Returns:
        The part's name, its photos, and remarks.

    Raises:
        UsageError: the part asked for does not exist, or is empty.
        PhotosError: it is a part of the run's split, and some of its photos are other ones by now.
    """
    if part is None and folder.test_is_labelled:
        part = "test"
    if part == "test" and not folder.test_is_labelled:
        why = "".join(f"; {remark}" for remark in folder.remarks)
        raise UsageError(f"--part test: {folder.root} has no test/ folder with a folder a class and photos in it{why}")
    told = [] if part else list(folder.remarks)  # among them why a test/ is not taken
    if part == "test" or (part in (None, "val") and folder.has_validation):
        chosen = part or "val"
        return chosen, folder.part(chosen), told
    chosen, photos, remarks = _of_run(folder, split, part)
    return chosen, photos, [*told, *remarks]


def _of_run(folder: PhotoFolder, split: Split | None, part: str | None) -> tuple[str, list[Photo], list[str]]:
    """A part of the run's split; where the folder has none of its photos, and no part is asked for, all of it."""
    wanted = part or "val"
    met = _met(folder, split, wanted)
    if met.photos:
        said = [] if folder.has_validation else [f"the {wanted} photos are those of the run's split"]
        return wanted, met.photos, said + met.remarks
    if part is None:
        return ALL, folder.part("train"), _remarks_on_all(split, met)
    if part == "train" and folder.has_validation:
        return part, folder.part("train"), []
    where = "it has none of its photos in the run's split" if split else "there is no split beside the bundle"
    told = ", so the run's split would say which photos are of train" if part == "train" else ""
    raise UsageError(f"--part {part}: {folder.root} has no val folder{told}, and {where}")


@dataclass(frozen=True)
class _Met:
    """Photos of a folder that stand in a part of the run's split, by their names and content.

    Attributes:
        photos: of the same name and content; of the same name where nobody knows one of the contents.
        others: how many have the name of one and another content; if there are any, `photos` is empty.
        remarks: what must be said of `photos`.
    """

    photos: list[Photo]
    others: int = 0
    remarks: list[str] = field(default_factory=list)


def _met(folder: PhotoFolder, split: Split | None, part: str) -> _Met:
    """What of a part of the split the folder has.

    Raises:
        PhotosError: some photos have the content that they had, and others have another one.
    """
    rows = {} if split is None else {row.file: row for row in split.part(part)}
    named = [photo for photo in folder.photos if photo.file in rows and photo.class_name is not None]
    # nothing is decoded, so no size is too large
    hashes = {entry.photo.file: entry.content_hash for entry in inspect(named, 0, decode_parts=())}
    known = [file for file, content in hashes.items() if content and rows[file].content_hash]
    others = [file for file in known if hashes[file] != rows[file].content_hash]
    if others and len(others) == len(known):
        return _Met([], len(others))
    if others:
        raise PhotosError(
            f"{folder.root}: {counted(len(others), 'photo')} changed since the run was trained, of {len(named):,} "
            f"named like its {part} photos:\n{listing(others)}\n"
            "Put them back; if these are new photos, give them a folder of their own, under other names"
        )
    missing = len(rows) - len(named)
    return _Met(named, 0, [f"{missing:,} of the run's {len(rows):,} {part} photos are not here"] if missing else [])


def _remarks_on_all(split: Split | None, met: _Met) -> list[str]:
    if split is None:
        return ["this bundle does not know its training photos; if these were among them, the figures are too high"]
    if not met.others:
        return []
    return [
        f"{counted(met.others, 'photo')} named like validation photos of the run, of another content: all photos here "
        "are taken for new ones; if they are the run's, encoded again, the figures are too high"
    ]


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
