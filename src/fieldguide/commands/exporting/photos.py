"""The photos that prove an export: a run's validation photos, or those that are given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fieldguide.commands.judging.known_photos import rows_to_judge
from fieldguide.commands.judging.labels import find_labelled
from fieldguide.commands.judging.models import class_folder_of, run_of, split_of
from fieldguide.commands.judging.parts import choose_part, of_known_classes
from fieldguide.commands.trial.request import read_request
from fieldguide.data.look.scan import Photo, PhotoFolder
from fieldguide.data.look.source import Source
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import PhotosError, UsageError


@dataclass(frozen=True)
class ProofPhotos:
    """Labelled photos.

    Attributes:
        part: `val`, `test` or `all`.
        rows: their names and classes.
        paths: their files, by name.
    """

    part: str
    rows: Sequence[Row]
    paths: dict[str, Path]


def proof_photos(
    runs: Sequence[Path], classes: Sequence[str], proof: Path | None, tell: Callable[[str], None]
) -> ProofPhotos:
    """Finds the photos.

    Args:
        runs: the runs or bundles of the export.
        classes: that they know.
        proof: a folder, table or archive of labelled photos; None: where the first run found its own.
        tell: gets remarks.

    Raises:
        UsageError: the run's photos are unknown or gone; the message asks for `--proof`.
        PhotosError: photos of other classes, or changed ones.
    """
    source = _of_run(runs) if proof is None else Source(proof, is_for_training=False)
    try:
        folder, remarks = find_labelled(replace(source, class_folder=class_folder_of(runs)), None, None)
    except (UsageError, PhotosError) as error:
        if proof is not None:
            raise
        raise UsageError(f"{error}\nThe run's photos were there; say where they are now: --proof PHOTOS") from None
    split = split_of(runs[0])
    part, wanted, more = _chosen(folder, split, is_given=proof is not None)
    wanted, _ = of_known_classes(wanted, classes, source.path, skip=False)
    for remark in (*remarks, *more):
        tell(remark)
    rows = rows_to_judge(wanted, part, [], [split_of(path) for path in runs])
    return ProofPhotos(part, rows, {photo.file: photo.path for photo in wanted})


def training_photos(runs: Sequence[Path]) -> list[tuple[Path, str]]:
    """The first run's training photos with their classes.

    Raises:
        UsageError, PhotosError: they are unknown or gone.
    """
    folder, _ = find_labelled(replace(_of_run(runs), class_folder=class_folder_of(runs)), None, None)
    split = split_of(runs[0])
    rows = {} if split is None else {row.file: row for row in split.part("train")}
    return [(photo.path, rows[photo.file].class_name) for photo in folder.photos if photo.file in rows]


def _of_run(runs: Sequence[Path]) -> Source:
    run = run_of(runs[0])
    if run is None or not run.can_go_on:
        raise UsageError(
            f"{runs[0]}: is a bundle without its run, so its photos are unknown; give some: --proof PHOTOS"
        )
    return replace(read_request(run).source(), is_for_training=False)


def _chosen(folder: PhotoFolder, split: Split | None, *, is_given: bool) -> tuple[str, list[Photo], list[str]]:
    """Validation photos where there are any; of given photos else what `evaluate` would take."""
    try:
        return choose_part(folder, split, "val")
    except UsageError:
        if not is_given:
            raise
    return choose_part(folder, split, None)
