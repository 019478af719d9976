"""Which photo is in training, validation or test: written down once, used by every later command."""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fieldguide.data.look.groups import joined
from fieldguide.errors import UsageError
from fieldguide.storage import csv_line, read_text, write_text

PARTS = ("train", "val", "test", "excluded")
HEADER = ("file", "class", "part", "content_hash", "reason")
WITH_GROUPS = (*HEADER, "group")  # where photos belong together


@dataclass(frozen=True)
class Row:
    """One photo of a split."""

    file: str  # its name below the folder of photos
    class_name: str  # empty in a test folder without classes
    part: str  # one of `PARTS`
    content_hash: str  # SHA-256 of the file; empty if it could not be read
    reason: str = ""  # why it is excluded, or empty
    group: str = ""  # the first of the photos that belong together, such as frames of a burst; empty for a single one


@dataclass(frozen=True)
class Split:
    """All photos of a folder, each in exactly one part."""

    rows: tuple[Row, ...]

    def part(self, name: str) -> list[Row]:
        """The rows of one part, in the order of the file."""
        return [row for row in self.rows if row.part == name]

    @property
    def classes(self) -> list[str]:
        """The classes with training photos, sorted as text; their places here are their indices."""
        return sorted({row.class_name for row in self.part("train")})

    def fingerprint(self, parts: Iterable[str] = ("train", "val")) -> str:
        """A digest: equal for the same photos in the same classes and parts, in any folder."""
        wanted = set(parts)
        lines = sorted(f"{row.part}\0{row.class_name}\0{row.content_hash}" for row in self.rows if row.part in wanted)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_split(path: Path, split: Split) -> None:
    """Writes a split as CSV (UTF-8, `\\n`)."""
    write_text(path, split_csv(split))


def split_csv(split: Split) -> str:
    """A split as CSV; equal splits give equal text."""
    head = WITH_GROUPS if any(row.group for row in split.rows) else HEADER
    rows = [(r.file, r.class_name, r.part, r.content_hash, r.reason, r.group)[: len(head)] for r in split.rows]
    return "".join(csv_line(row) for row in (head, *rows))


def read_split(path: Path) -> Split:
    """Reads a split; raises UsageError with file and line if it is missing or damaged."""
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
            raise UsageError(f"{path}: line {number} repeats {line[0]}")
        seen.add(line[0])
    return Split(tuple(Row(*line) for _, line in numbered[1:]))


def group_numbers(rows: Sequence[Row]) -> npt.NDArray[np.int64] | None:
    """(rows,) one number per group or single row; None if no rows belong together."""
    names = [row.group or row.file for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return None if len(numbers) == len(rows) else np.array([numbers[name] for name in names], dtype=np.int64)


def whole_groups(rows: Sequence[Row], together: Sequence[Sequence[str]]) -> dict[str, list[Row]]:
    """Rows of the same content or group, by the smallest of their content hashes.

    Without groups the keys are the content hashes, so the order that a seed draws stays the same.
    """
    content = {row.file: row.content_hash for row in rows}
    linked = joined([content[file] for file in files if file in content] for files in together)
    leader = {content_hash: min(hashes) for hashes in linked for content_hash in hashes}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[leader.get(row.content_hash, row.content_hash)].append(row)
    return groups
