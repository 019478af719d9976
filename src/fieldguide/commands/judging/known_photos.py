"""The photos of an evaluation, by content: which ones the run knows already, and a digest of the set."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.scan import Photo
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import listing


@dataclass(frozen=True)
class Known:
    """Photos that the run knows already, by content.

    `trained` has one line for each that is among its training photos; `in_validation` counts those among its validation
    photos (None: unknown).
    """

    trained: tuple[str, ...]
    in_validation: int | None

    def was_fitted_on(self, part: str) -> bool | None:
        """Whether a temperature was fitted on any of them; None if unknown. Unknown test photos count as new."""
        if self.in_validation is None and part != "test":
            return None
        return bool(self.in_validation)

    def remarks(self, part: str) -> list[str]:
        """What this means for the figures of a part."""
        found = []
        if self.trained:
            known = f"the model was trained on {len(self.trained):,} of these photos, so the figures are too high"
            found.append(f"{known}:\n{listing(self.trained)}")
        if self.in_validation and part == "test":
            chose = "validation, which chose the epoch and the temperature, so the figures are optimistic"
            found.append(f"{self.in_validation:,} of these photos are also in {chose}")
        elif self.in_validation:
            found.append("the epoch was chosen on these photos, so the figures are optimistic")
        return found


def known_photos(
    photos: Sequence[Inspected], part: str, splits: Sequence[Split | None], before: Collection[str] = ()
) -> Known:
    """The photos that any of several runs knows; checksums are not needed for `train`.

    A split is None for a bundle without its run; `before` are contents that the first weights of the runs were trained
    on.
    """
    known = [split for split in splits if split is not None]
    if not known:
        return Known((), None)
    if part == "train":
        return Known((), 0)
    seen = dict.fromkeys(before, "known to the run of its first weights")
    seen |= {row.content_hash: row.file for split in known for row in split.part("train") if row.content_hash}
    chosen = {row.content_hash for split in known for row in split.part("val") if row.content_hash}
    trained = (f"{e.photo.file} is {seen[e.content_hash]}" for e in photos if e.content_hash in seen)
    count = sum(e.content_hash in chosen for e in photos)
    return Known(tuple(trained), count if count or len(known) == len(splits) else None)


def rows_to_judge(
    photos: Sequence[Photo], part: str, looked_at: Sequence[Inspected], splits: Sequence[Split | None]
) -> list[Row]:
    """Photos as `judge_photos` takes them, with groups from the runs' splits and for equal content.

    `looked_at` are the same photos with checksums; without it they are matched by name. A split is None for a bundle
    without its run.
    """
    content = {entry.photo.file: entry.content_hash for entry in looked_at}
    known = [row for split in splits if split is not None for row in split.rows if row.group]
    group_of = {row.content_hash if looked_at else row.file: row.group for row in known}
    several = {key for key, count in Counter(content.values()).items() if count > 1 and key}
    rows = []
    for photo in photos:
        key = content.get(photo.file, photo.file)
        group = group_of.get(key, key if key in several else photo.group)  # the group of a table, if nothing else
        rows.append(Row(photo.file, photo.class_name or "", part, content.get(photo.file, ""), group=group))
    return rows


def sha256_of_test(photos: Sequence[Inspected]) -> str:
    """A digest of test photos, as `Split.fingerprint`: equal for the same photos in the same classes.

    Photos that cannot be decoded count too.
    """
    rows = [Row(entry.photo.file, entry.photo.class_name or "", "test", entry.content_hash) for entry in photos]
    return Split(tuple(rows)).fingerprint(("test",))
