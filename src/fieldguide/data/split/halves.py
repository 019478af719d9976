"""Validation in two halves: by one a search chooses, by the other its choice is judged."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from fieldguide.data.split.partition import Row, Split, whole_groups
from fieldguide.errors import PhotosError

LEAST_PHOTOS = 2  # of validation


def halves(split: Split, groups: Sequence[Sequence[str]] = ()) -> tuple[Split, list[Row]]:
    """The split with half of its validation photos, and the rows of the other half.

    Groups stay whole, and each class is halved as well as they allow. Checksums decide, so the same photos are halved
    alike in any folder.

    Raises:
        PhotosError: fewer than two validation photos or groups.
    """
    together = whole_groups(split.part("val"), groups)
    if len(together) < LEAST_PHOTOS:
        raise PhotosError("a search needs two validation photos or more that are not near duplicates")
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    total, judging = [0, 0], set[str]()
    # large groups first, so that small ones can make up for them
    for _, rows in sorted(together.items(), key=lambda group: (-len(group[1]), group[0])):
        of_class = counts[rows[0].class_name]
        place = int((of_class[1], total[1]) < (of_class[0], total[0]))
        for row in rows:
            counts[row.class_name][place] += 1
        total[place] += len(rows)
        judging |= {row.file for row in rows if place}
    kept = tuple(row for row in split.rows if row.file not in judging)
    return replace(split, rows=kept), [row for row in split.rows if row.file in judging]
