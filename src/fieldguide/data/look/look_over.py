"""Looks at each photo of a folder and collects the findings."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fieldguide.data.look.check import Checked, check_photos
from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import Finding
from fieldguide.data.look.looked_at import look_at
from fieldguide.data.look.scan import PhotoFolder
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.reading import AnyReading
from fieldguide.storage import printable

PERCENT = 100
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        photos: the folder.
        used: what will be train, val and test, in one sentence.
        findings: in reading order, harm before notes.
        classes: of each class its name and how many readable photos it has in `train`, `val` and `test`.
        groups: files that are the same or nearly the same; a split keeps them together.
        torn: files of each near-duplicate pair across parts, in a group or not.
    """

    photos: str
    used: str
    findings: tuple[Finding, ...]
    classes: tuple[dict[str, Any], ...]
    groups: tuple[tuple[str, ...], ...]
    torn: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        kinds = Counter(finding.severity for finding in self.findings)
        found = ", ".join(f"{count} {severity}" for severity, count in kinds.items())
        return f"CheckReport({self.photos}, {len(self.classes):,} classes, findings: {found or 'none'})"

    @property
    def exit_code(self) -> int:
        """1 if a finding would harm a training, else 0."""
        return int(any(finding.severity == "harm" for finding in self.findings))

    def plain(self) -> dict[str, Any]:
        """As in `--json`."""
        return {
            "photos": self.photos,
            "used": self.used,
            "findings": [finding.plain() for finding in self.findings],
            "classes": list(self.classes),
            "groups": [list(group) for group in self.groups],
        }


def silent(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Shows no progress."""
    return nullcontext(lambda _: None)


def look_over(
    folder: PhotoFolder,
    reading: AnyReading,
    progress: Progress = silent,
    contents: Contents | None = None,
    is_late: Callable[[], bool] = lambda: False,
    hurries: Callable[[], bool] = lambda: False,
) -> tuple[list[Facts], CheckReport]:
    """Looks at each photo once and collects the findings, as `train` does first; `contents` keeps what it read.

    Where `is_late`, asked while photos are compared, near duplicates are only those found so far. Photos that are
    looked at while it `hurries` are not compared.
    """
    with progress("looking at photos", len(folder.photos)) as advance:
        facts = look_at(folder.photos, reading, advance, contents, hurries)
    with progress("comparing photos, %", PERCENT) as advance:
        return facts, _report(folder, check_photos(folder, facts, _in_percent(advance), is_late))


def _in_percent(advance: Callable[[int], None]) -> Callable[[float], None]:
    """Turns shares into whole percents that add up to 100."""
    done, told = 0.0, 0

    def by(share: float) -> None:
        nonlocal done, told
        done += share
        advance(round(done * PERCENT) - told)
        told = round(done * PERCENT)

    return by


def _report(folder: PhotoFolder, checked: Checked) -> CheckReport:
    counts = checked.counts
    classes = tuple(
        {"name": name, **{part: getattr(counts, part).get(name, 0) for part in ("train", "val", "test")}}
        for name in counts.classes
    )
    groups = tuple(map(tuple, checked.duplicates.file_groups))
    torn = tuple(map(tuple, checked.duplicates.torn))
    return CheckReport(printable(folder.name), checked.used, checked.findings, classes, groups, torn)
