"""Which photo is in training, validation or test: made once, written down, reused by every later command."""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fieldguide.data.look.groups import joined
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.split.leaks import same_content, same_group, seen_before
from fieldguide.errors import PhotosError, UsageError, counted
from fieldguide.storage import csv_line, read_text, write_text

PARTS = ("train", "val", "test", "excluded")
HEADER = ("file", "class", "part", "content_hash", "reason")
WITH_GROUPS = (*HEADER, "group")  # where photos belong together


@dataclass(frozen=True)
class Row:
    """One photo of a split.

    Attributes:
        file: its name below the folder of photos.
        class_name: empty in a test folder without classes.
        part: one of `PARTS`.
        content_hash: SHA-256 of the file.
        reason: why it is excluded, or empty.
        group: the first photo of those that belong together, such as near duplicates or the frames of a burst; empty
            for one that stands for itself.
    """

    file: str
    class_name: str
    part: str
    content_hash: str
    reason: str = ""
    group: str = ""


@dataclass(frozen=True)
class Split:
    """All photos of a folder, each in exactly one part."""

    rows: tuple[Row, ...]

    def part(self, name: str) -> list[Row]:
        """The rows of one part, in the order of the file."""
        return [row for row in self.rows if row.part == name]

    @property
    def classes(self) -> list[str]:
        """The classes that have training photos, sorted as text; a class's index is its place here."""
        return sorted({row.class_name for row in self.part("train")})

    def fingerprint(self, parts: Iterable[str] = ("train", "val")) -> str:
        """The same text for the same photos in the same classes and parts, wherever they lie."""
        wanted = set(parts)
        lines = sorted(f"{row.part}\0{row.class_name}\0{row.content_hash}" for row in self.rows if row.part in wanted)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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
) -> tuple[Split, list[str]]:
    """Puts every photo into a part.

    Without validation photos of its own, a share of every class is set apart: stratified, at least one
    photo of every class that has two, and the same content (SHA-256) and the same group never in two parts.

    Args:
        inspected: all photos; those with a reason become `excluded`.
        seed: of the split.
        validation_share: of every class's photos, in (0, 1).
        has_validation: whether the folder has validation photos already.
        leaks: `refuse`, `drop` (from training) or `allow`, for the same photo in training and elsewhere;
            `drop` drops the training photos of a group that stands elsewhere, too, and the others only say so:
            whether two photos of a group are the same is a judgement.
        groups: names of files that belong together, near duplicates or the frames of a burst; those that
            share a file are joined.
        torn: names of the files of each near pair that stand in different parts. They are dealt with as a group that
            stands in both, also where they are look-alikes, too many for a group: nothing is kept together for them
            in what is set apart.
        seen: contents (SHA-256) that the first weights were trained on, and by which run. None of them is set apart
            for validation; one that stands in a folder of validation or test photos is a leak, which `drop` leaves out
            of these.

    Returns:
        The split, and sentences that a person should read.

    Raises:
        PhotosError: a leak, or too little to train or to validate on.
    """
    # A photo whose file says nothing of itself but that cannot be read stays out, with the reason.
    rows = [
        Row(
            entry.photo.file,
            entry.photo.class_name or "",
            "excluded" if entry.reason and entry.photo.part != "test" else entry.photo.part,
            entry.content_hash,
            entry.reason,
        )
        for entry in inspected
    ]
    # Leaks first: whether a photo leaks must not depend on what the seed sets apart.
    remarks: list[str] = []
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


def write_split(path: Path, split: Split) -> None:
    """Writes a split as CSV (UTF-8, `\\n`)."""
    write_text(path, split_csv(split))


def split_csv(split: Split) -> str:
    """A split as CSV, the same text for the same split."""
    head = WITH_GROUPS if any(row.group for row in split.rows) else HEADER
    rows = [(r.file, r.class_name, r.part, r.content_hash, r.reason, r.group)[: len(head)] for r in split.rows]
    return "".join(csv_line(row) for row in (head, *rows))


def read_split(path: Path) -> Split:
    """Reads a split.

    Raises:
        UsageError: missing or damaged; the message names file and line.
    """
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        numbered = [(reader.line_num, line) for line in reader]
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num} is damaged ({error})") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from None
    head = tuple(numbered[0][1]) if numbered else ()
    if head not in (HEADER, WITH_GROUPS):
        raise UsageError(f"{path}: the first line must be {','.join(HEADER)}, with or without group")
    seen: set[str] = set()
    for number, line in numbered[1:]:
        if len(line) != len(head) or line[2] not in PARTS:
            raise UsageError(f"{path}: line {number} is damaged: {','.join(line)[:80]}")
        if line[0] in seen:
            raise UsageError(f"{path}: line {number} has {line[0]} once more")
        seen.add(line[0])
    return Split(tuple(Row(*line) for _, line in numbered[1:]))


def _moved(row: Row, part: str, reason: str = "") -> Row:
    return replace(row, part=part, reason=reason or row.reason)


def _set_apart(
    rows: list[Row], seed: int, share: float, groups: Sequence[Sequence[str]], seen: Mapping[str, str]
) -> tuple[list[Row], list[str]]:
    """Makes validation photos of some training photos; says where earlier trainings have a part in the choice."""
    training = [row for row in rows if row.part == "train"]
    known = [row for row in training if row.content_hash in seen]
    if known and len(known) == len(training):
        raise PhotosError(
            f"every photo was trained on by {seen[known[0].content_hash]} (model.weights), so none can be set apart "
            "for validation; start from other weights, or add a val/ folder with other photos"
        )
    chosen = _choose_validation(training, seed, share, groups, seen)
    rows = [_moved(row, "val") if row.file in chosen and row.part == "train" else row for row in rows]
    if not known:
        return rows, []
    named = ", ".join(sorted({seen[row.content_hash] for row in known}))
    return rows, [
        f"{counted(len(known), 'photo')} that {named} was trained on stay in training; validation is set apart from "
        "the others"
    ]


def _choose_validation(
    rows: Sequence[Row], seed: int, share: float, together: Sequence[Sequence[str]], seen: Mapping[str, str]
) -> set[str]:
    """The files set apart: whole groups, none of which was seen, class by class, in an order drawn by the seed."""
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
    """The groups of each class in the order of their keys, found in one pass: there may be a thousand classes."""
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


def group_numbers(rows: Sequence[Row]) -> npt.NDArray[np.int64] | None:
    """(rows,) one number for all rows of a group and one each for the others; None where each stands for itself."""
    names = [row.group or row.file for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return None if len(numbers) == len(rows) else np.array([numbers[name] for name in names], dtype=np.int64)


def whole_groups(rows: Sequence[Row], together: Sequence[Sequence[str]]) -> dict[str, list[Row]]:
    """Rows of the same content or of one group, by the smallest of their content hashes.

    Without groups the keys are the content hashes, so that the order that a seed draws stays the same.
    """
    content = {row.file: row.content_hash for row in rows}
    linked = joined([content[file] for file in files if file in content] for files in together)
    leader = {content_hash: min(hashes) for hashes in linked for content_hash in hashes}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[leader.get(row.content_hash, row.content_hash)].append(row)
    return groups


def _demand_enough(split: Split, *, grouped: bool) -> None:
    classes = split.classes
    if len(classes) < 2:
        only = f" ({classes[0]})" if classes else ""
        raise PhotosError(f"a classifier needs photos of at least 2 classes, and there are {len(classes)}{only}")
    if not split.part("val"):
        why = "each class is one group" if grouped else "no class has 2 photos"
        raise PhotosError(f"{why}, so none can be set apart for validation; add photos or a val/ folder")
    unknown = sorted({row.class_name for row in split.part("val")} - set(classes))
    if unknown:
        raise PhotosError(
            f"val has classes that have no training photos: {', '.join(unknown)}; add photos or remove them"
        )
    # Classes that lost every training photo show up above where val has them; elsewhere they are named here.
    lost = sorted({row.class_name for row in split.part("excluded")} - set(classes))
    if lost:
        raise PhotosError(
            f"classes that have no training photo left (unreadable or dropped): {', '.join(lost)}; "
            "add photos or remove the folder"
        )


def _remarks(split: Split, has_validation: bool) -> list[str]:
    counts = Counter(row.class_name for row in split.part("train"))
    in_validation = {row.class_name for row in split.part("val")}
    missing = [name for name in split.classes if name not in in_validation]
    if not missing:
        return []
    single = [name for name in missing if counts[name] == 1 and not has_validation]
    found = []
    if single:
        found.append(f"classes with one photo, which stays in training and is never validated: {', '.join(single)}")
    rest = [name for name in missing if name not in single]
    if rest:
        found.append(f"classes missing in validation, whose accuracy nobody will know: {', '.join(rest)}")
    return found
