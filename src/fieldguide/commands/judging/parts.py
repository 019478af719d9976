"""Which photos an evaluation uses: a part of the folder, a part of the run's split, or all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldguide.data.look.inspect import inspect
from fieldguide.data.look.scan import Photo, PhotoFolder, natural
from fieldguide.data.split.partition import Split
from fieldguide.errors import PhotosError, UsageError, counted, listing
from fieldguide.recipe.names import nearest

PARTS = ("test", "val", "train")
ALL = "all"


def choose_part(folder: PhotoFolder, split: Split | None, part: str | None) -> tuple[str, list[Photo], list[str]]:
    """Which photos to evaluate: the part's name, its photos, and remarks.

    Raises UsageError if the part asked for does not exist or is empty, PhotosError if some photos of the run's split
    have changed.
    """
    if part is None and folder.test_is_labelled:
        part = "test"
    if part == "test" and not folder.test_is_labelled:
        why = "".join(f"; {sentence}" for sentence in folder.sentences)
        raise UsageError(f"--part test: {folder.root} has no test/ with class folders and photos in them{why}")
    told = [] if part else folder.sentences  # among them why a test/ is not used
    if part == "test" or (part in (None, "val") and folder.has_validation):
        chosen = part or "val"
        return chosen, folder.part(chosen), told
    chosen, photos, remarks = _of_run(folder, split, part)
    return chosen, photos, [*told, *remarks]


def _of_run(folder: PhotoFolder, split: Split | None, part: str | None) -> tuple[str, list[Photo], list[str]]:
    """A part of the run's split; all photos if the folder has none of these and no part is asked for."""
    wanted = part or "val"
    met = _met(folder, split, wanted)
    if met.photos:
        said = [] if folder.has_validation else [f"using the {wanted} photos of the run's split"]
        return wanted, met.photos, said + met.remarks
    if part is None:
        return ALL, folder.part("train"), _remarks_on_all(split, met)
    if part == "train" and folder.has_validation:
        return part, folder.part("train"), []
    where = "none of its photos are in the run's split" if split else "the bundle has no split beside it"
    told = ", so only the run's split can say which photos are train" if part == "train" else ""
    raise UsageError(f"--part {part}: {folder.root} has no val/{told}, and {where}")


@dataclass(frozen=True)
class _Met:
    """Photos of a folder that are in a part of the run's split, by name and content.

    Their names and contents are the same; only their names if a content is unknown. `others` counts those with such a
    name but another content; if any, `photos` is empty.
    """

    photos: list[Photo]
    others: int = 0
    remarks: list[str] = field(default_factory=list)


def _met(folder: PhotoFolder, split: Split | None, part: str) -> _Met:
    """The photos of a part of the split that the folder has; raises PhotosError if only some of them have changed."""
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
            f"{folder.root}: {len(others):,} of {counted(len(named), f'{part} photo')} changed since the run was "
            f"trained:\n{listing(others)}\n"
            "Put them back. If these are new photos, move them to another folder, under other names"
        )
    missing = len(rows) - len(named)
    return _Met(named, 0, [f"{missing:,} of the run's {len(rows):,} {part} photos are missing here"] if missing else [])


def _remarks_on_all(split: Split | None, met: _Met) -> list[str]:
    if split is None:
        return ["bundle without its run: training photos unknown. If these are among them, the figures are too high"]
    if not met.others:
        return []
    return [
        f"{counted(met.others, 'photo')} named like the run's validation photos, but with other content: all photos "
        "here count as new. If they are the run's photos, encoded again, the figures are too high"
    ]


def common_split(splits: Sequence[Split | None], folder: PhotoFolder, part: str | None) -> Split | None:
    """The split of all runs; raises UsageError if they differ and the folder has no part of its own to evaluate."""
    if len({None if split is None else split.fingerprint() for split in splits}) == 1:
        return splits[0]
    own = {"test": folder.test_is_labelled, "val": folder.has_validation, "train": False}
    if not (own[part] if part else own["test"] or own["val"]):
        raise UsageError(
            f"the runs have different splits: {part or 'validation'} photos of one are training photos of another. "
            "Evaluate them on labelled test photos, or on a val/ folder that no run was trained on"
        )
    return None


def of_known_classes(
    photos: Sequence[Photo], classes: Sequence[str], where: Path, *, skip: bool
) -> tuple[list[Photo], list[str]]:
    """The photos whose classes the model knows, and a remark on those that are skipped.

    Raises PhotosError that names the other classes, each with the nearest one, unless they are to be skipped.
    """
    unknown = sorted({photo.class_name or "" for photo in photos} - set(classes), key=natural)
    if not unknown:
        return list(photos), []
    named = ", ".join(f"{name}{nearest(name, classes)}" for name in unknown[:10]) + (" ..." if unknown[10:] else "")
    what = f"{counted(len(unknown), 'class')} that the model does not know: {named}"
    kept = [photo for photo in photos if photo.class_name in set(classes)]
    if not skip or not kept:
        leave = "" if not kept else ". Rename the folders or labels, or judge the other photos: --skip-unknown"
        raise PhotosError(f"{where}: {what}; it knows {len(classes)}, such as {', '.join(classes[:5])}{leave}")
    return kept, [f"{counted(len(photos) - len(kept), 'photo')} not judged: {what}"]
