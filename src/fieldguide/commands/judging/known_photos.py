"""What an evaluation's photos are by their content: photos that the run has met before, and which set of photos."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.scan import Photo
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import listing


@dataclass(frozen=True)
class Known:
    """Photos that the run has met before, by their content.

    Attributes:
        trained: a line for each that stands among its training photos.
        in_validation: how many stand among its validation photos; None where nobody can tell.
    """

    trained: tuple[str, ...]
    in_validation: int | None

    def was_fitted_on(self, part: str) -> bool | None:
        """Whether a temperature was fitted on any of them; None where nobody can tell. Test photos then count as new.

        Args:
            part: what they are evaluated as.
        """
        if self.in_validation is None and part != "test":
            return None
        return bool(self.in_validation)

    def remarks(self, part: str) -> list[str]:
        """What it means for the figures of a part."""
        found = []
        if self.trained:
            found.append(
                f"{len(self.trained):,} of these photos were trained on, so the figures are too high:\n"
                f"{listing(self.trained)}"
            )
        if self.in_validation and part == "test":
            found.append(
                f"{self.in_validation:,} of these photos stand in validation too, where the epoch was chosen and the "
                "temperature fitted, so the figures are optimistic"
            )
        elif self.in_validation:
            found.append("the epoch was chosen on these photos, so the figures are optimistic")
        return found


def known_photos(
    photos: Sequence[Inspected], part: str, splits: Sequence[Split | None], before: Collection[str] = ()
) -> Known:
    """Of several runs: what any of them has met.

    Args:
        photos: checksummed; those of `train` need not be.
        part: what they are evaluated as.
        splits: of each run; None where there is none beside its bundle.
        before: contents that the runs' first weights were trained on.
    """
    known = [split for split in splits if split is not None]
    if not known:
        return Known((), None)
    if part == "train":
        return Known((), 0)
    seen = dict.fromkeys(before, "known to the run that its first weights are of")
    seen |= {row.content_hash: row.file for split in known for row in split.part("train") if row.content_hash}
    chosen = {row.content_hash for split in known for row in split.part("val") if row.content_hash}
    trained = (f"{e.photo.file} is {seen[e.content_hash]}" for e in photos if e.content_hash in seen)
    count = sum(e.content_hash in chosen for e in photos)
    return Known(tuple(trained), count if count or len(known) == len(splits) else None)


def rows_to_judge(
    photos: Sequence[Photo], part: str, looked_at: Sequence[Inspected], splits: Sequence[Split | None]
) -> list[Row]:
    """Photos as `judge_photos` takes them, with the groups that the runs' splits know, and those of equal content.

    Args:
        photos: to judge, with their classes.
        part: what they are evaluated as.
        looked_at: the same photos, checksummed; without it they are known by their names.
        splits: of each run; None where there is none beside its bundle.
    """
    content = {entry.photo.file: entry.content_hash for entry in looked_at}
    known = [row for split in splits if split is not None for row in split.rows if row.group]
    group_of = {row.content_hash if looked_at else row.file: row.group for row in known}
    several = {key for key, count in Counter(content.values()).items() if count > 1 and key}
    rows = []
    for photo in photos:
        key = content.get(photo.file, photo.file)
        group = group_of.get(key, key if key in several else "")
        rows.append(Row(photo.file, photo.class_name or "", part, content.get(photo.file, ""), group=group))
    return rows


def sha256_of_test(photos: Sequence[Inspected]) -> str:
    """Of test photos what `Split.fingerprint` is of those of a split: the same for the same photos in the same classes.

    Photos that cannot be decoded count too, so that it tells what there was to judge.
    """
    rows = [Row(entry.photo.file, entry.photo.class_name or "", "test", entry.content_hash) for entry in photos]
    return Split(tuple(rows)).fingerprint(("test",))
