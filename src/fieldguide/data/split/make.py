"""Puts each photo of a folder into training, validation or test, once per run."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.split.leaks import same_content, same_group, seen_before
from fieldguide.data.split.partition import Row, Split, whole_groups
from fieldguide.errors import PhotosError, counted


def make_split(
    inspected: Sequence[Inspected],
    *,
    seed: int,
    validation_share: float,
    has_validation: bool,
    leaks: str,
    groups: Sequence[Sequence[str]] = (),
    torn: Sequence[Sequence[str]] = (),
    seen: Mapping[str, str] | None = None,
) -> tuple[Split, list[Remark]]:
    """Puts each photo into a part; gives the split and what a person should read.

    If the folder has no validation photos, a share of each class is set apart. This is stratified, with at least one
    photo of each class that has two. The same content (SHA-256) or group is never in two parts.

    Args:
        inspected: all photos; those with a reason become `excluded`.
        seed, validation_share: of the photos that are set apart; the share of each class, in (0, 1).
        has_validation: whether the folder has validation photos already.
        leaks: what to do with a photo that is in training and elsewhere: `refuse`, `drop` (from training) or `allow`.
            `drop` also drops training photos whose group is elsewhere; the others only report these, because whether
            two photos of a group are the same is a judgement.
        groups: files that belong together: near duplicates, or frames of a burst. Groups that share a file are joined.
        torn: names of the files of each near pair across parts. They count as a group in both parts, even if they are
            look-alikes, which are too many for a group. They do not keep photos together in what is set apart.
        seen: the run that was trained on a content (SHA-256), for contents that the first weights know. None of them
            is set apart for validation. In a val or test folder they are a leak; `drop` then leaves them out there.

    Raises:
        PhotosError: a leak, or too few photos to train or to validate.
    """
    rows = [_row(entry) for entry in inspected]
    # Leaks first: whether a photo leaks must not depend on what the seed sets apart.
    remarks: list[Remark] = []
    seen = seen or {}
    for deal in (partial(seen_before, seen=seen), same_content, partial(same_group, together=groups, torn=torn)):
        out, more = deal(rows, leaks)
        rows = [_moved(row, "excluded", out[row.file]) if row.file in out else row for row in rows]
        remarks += more
    if not has_validation:
        rows, more = _set_apart(rows, seed, validation_share, groups, seen)
        remarks += more
    split = Split(tuple(_with_groups(rows, groups)))
    _demand_enough(split, grouped=bool(groups))
    return split, remarks + _remarks(split, has_validation)


def _row(entry: Inspected) -> Row:
    """A photo in its part; one that cannot be read is excluded, but a test photo stays."""
    photo = entry.photo
    part = "excluded" if entry.reason and photo.part != "test" else photo.part
    return Row(photo.file, photo.class_name or "", part, entry.content_hash, entry.reason)


def _moved(row: Row, part: str, reason: str = "") -> Row:
    return replace(row, part=part, reason=reason or row.reason)


def _set_apart(
    rows: list[Row], seed: int, share: float, groups: Sequence[Sequence[str]], seen: Mapping[str, str]
) -> tuple[list[Row], list[Remark]]:
    """Turns some training photos into validation photos; remarks on those that an earlier training has seen."""
    training = [row for row in rows if row.part == "train"]
    known = [row for row in training if row.content_hash in seen]
    if known and len(known) == len(training):
        raise PhotosError(
            f"{seen[known[0].content_hash]} (model.weights) was trained on all photos, so none can be set apart for "
            "validation; start from other weights, or add a val/ folder with other photos"
        )
    chosen = _choose_validation(training, seed, share, groups, seen)
    rows = [_moved(row, "val") if row.file in chosen and row.part == "train" else row for row in rows]
    if not known:
        return rows, []
    runs = ", ".join(sorted({seen[row.content_hash] for row in known}))
    words = f"{counted(len(known), 'photo')} stay in training, because {runs} was trained on them"
    return rows, [Remark(Topic.SEEN_BEFORE, words, tuple(row.file for row in known))]


def _choose_validation(
    rows: Sequence[Row], seed: int, share: float, together: Sequence[Sequence[str]], seen: Mapping[str, str]
) -> set[str]:
    """The files to set apart: whole groups that no earlier training saw, class by class, in an order from the seed."""
    groups = _by_class(whole_groups(rows, together))
    left = Counter(row.class_name for row in rows)
    wanted = {name: max(1, round(share * count)) if count > 1 else 0 for name, count in left.items()}
    taken: Counter[str] = Counter()
    chosen: set[str] = set()

    def take(group: list[Row]) -> None:
        for row in group:
            taken[row.class_name] += 1
            left[row.class_name] -= 1
            chosen.add(row.file)

    def fits(group: list[Row], *, within_share: bool) -> bool:
        sizes = Counter(row.class_name for row in group)
        return group[0].file not in chosen and all(
            left[name] > size and (not within_share or taken[name] + size <= wanted[name])
            for name, size in sizes.items()
        )

    for name in sorted(wanted):
        draw = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])])
        shuffled = [groups[name][i] for i in draw.permutation(len(groups[name]))]
        shuffled = [group for group in shuffled if all(row.content_hash not in seen for row in group)]
        for group in shuffled:
            if taken[name] < wanted[name] and fits(group, within_share=True):
                take(group)
        for group in sorted(shuffled, key=len):
            if taken[name] == 0 and wanted[name] and fits(group, within_share=False):
                take(group)
    return chosen


def _by_class(groups: Mapping[str, list[Row]]) -> dict[str, list[list[Row]]]:
    """The groups of each class, in the order of their keys; one pass, because there may be a thousand classes."""
    found: dict[str, list[list[Row]]] = defaultdict(list)
    for _, group in sorted(groups.items()):
        for name in {row.class_name for row in group}:
            found[name].append(group)
    return found


def _with_groups(rows: Sequence[Row], together: Sequence[Sequence[str]]) -> list[Row]:
    used = [row for row in rows if row.part != "excluded" and row.content_hash]
    several = [group for group in whole_groups(used, together).values() if len(group) > 1]
    first = {row.file: group[0].file for group in several for row in group}
    return [replace(row, group=first[row.file]) if row.file in first else row for row in rows]


def _demand_enough(split: Split, *, grouped: bool) -> None:
    classes = split.classes
    if len(classes) < 2:
        only = f" ({classes[0]})" if classes else ""
        raise PhotosError(f"a classifier needs photos of at least 2 classes; there are {len(classes)}{only}")
    if not split.part("val"):
        why = "each class is one group" if grouped else "no class has 2 photos"
        raise PhotosError(f"{why}, so none can be set apart for validation; add photos or a val/ folder")
    unknown = sorted({row.class_name for row in split.part("val")} - set(classes))
    if unknown:
        raise PhotosError(f"classes in val without training photos: {', '.join(unknown)}; add photos or remove them")
    # Classes that lost all training photos are named above if val has them, else here.
    lost = sorted({row.class_name for row in split.part("excluded")} - set(classes))
    if lost:
        raise PhotosError(
            f"classes without a training photo left (unreadable or dropped): {', '.join(lost)}; "
            "add photos or remove the folder"
        )


def single(classes: Sequence[str]) -> Remark:
    """What to say about classes with one photo."""
    words = f"classes with one photo; it stays in training and is never validated: {', '.join(classes)}"
    return Remark(Topic.SINGLE, words, tuple(classes))


def _remarks(split: Split, has_validation: bool) -> list[Remark]:
    counts = Counter(row.class_name for row in split.part("train"))
    in_validation = {row.class_name for row in split.part("val")}
    missing = [name for name in split.classes if name not in in_validation]
    alone = [name for name in missing if counts[name] == 1 and not has_validation]
    found = [single(alone)] if alone else []
    rest = [name for name in missing if name not in alone]
    if rest:
        words = f"classes without validation photos, so their accuracy stays unknown: {', '.join(rest)}"
        found.append(Remark(Topic.NOT_VALIDATED, words, tuple(rest)))
    return found
