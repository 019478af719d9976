"""Looks a folder of photos over before anything is trained: files, duplicates, classes, names, layout."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fieldguide.data.look.class_findings import Counts, class_findings, count, layout_findings, name_findings
from fieldguide.data.look.duplicates import Duplicates, duplicate_findings, find_duplicates
from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import KINDS, Finding, some
from fieldguide.data.look.scan import PhotoFolder, summary

REASON_KINDS = {
    "unreadable": "unreadable",
    "truncated": "truncated",
    "empty": "empty_file",
    "not_an_image": "not_an_image",
    "bomb": "bomb",
}
TRAITS = {
    "wrong_ending": "the ending names another format than the content has",
    "tiny": "the shorter side is under 32 pixels",
    "elongated": "over 5 times as long as wide",
    "animated": "several pictures in a file, of which the first is used",
    "exif_rotated": "marked as turned by the camera; used upright",
    "alpha": "transparency, laid on white",
    "sixteen_bit": "more than 8 bits a channel; used with 8",
    "cmyk": "printing colours, converted to RGB",
    "grayscale": "no colour channels",
}


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        findings: in the order of `KINDS`.
        used: what will be train, val and test, in one sentence.
        counts: readable photos of each class.
        duplicates: with the groups that a split keeps together.
    """

    findings: tuple[Finding, ...]
    used: str
    counts: Counts
    duplicates: Duplicates


def check_photos(
    folder: PhotoFolder, facts: Sequence[Facts], advance: Callable[[float], None] = lambda _: None
) -> Checked:
    """Draws the findings from a look at every photo.

    Args:
        folder: as scanned.
        facts: of all its photos (`look_at`).
        advance: called with the share of the comparison that was done since the last call.
    """
    duplicates = find_duplicates(facts, advance)
    counts = count(folder, [entry.photo for entry in facts if not entry.reason], duplicates.file_groups)
    findings = [
        *_file_findings(facts),
        *duplicate_findings(duplicates),
        *class_findings(folder, counts),
        *name_findings(folder, counts),
        *layout_findings(folder),
    ]
    rank = {kind: place for place, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: rank[finding.kind])  # stable: files stay in their order
    unreadable = sum(1 for entry in facts if entry.reason)
    used = summary(folder) + (f"; {unreadable:,} of these cannot be read" if unreadable else "")
    return Checked(tuple(findings), used, counts, duplicates)


def _file_findings(facts: Sequence[Facts]) -> Iterator[Finding]:
    """A finding a file for what cannot be read, a finding a part for what is odd."""
    for entry in facts:
        if entry.reason:
            photo = entry.photo
            message = f"{photo.file} {entry.reason}"
            yield Finding(REASON_KINDS[entry.reason_kind], photo.part, _classes([entry]), (photo.file,), message)
    for trait, what in TRAITS.items():
        for part in ("train", "val", "test"):
            having = [entry for entry in facts if trait in entry.traits and entry.photo.part == part]
            if having:
                files = tuple(_described(entry, trait) for entry in having)
                names = tuple(entry.photo.file for entry in having)
                yield Finding(trait, part, _classes(having), names, f"{what}: {some(files)}")


def _described(entry: Facts, trait: str) -> str:
    if trait == "wrong_ending":
        return f"{entry.photo.file} (is {entry.format})"
    if trait in ("tiny", "elongated"):
        return f"{entry.photo.file} ({entry.width:,} x {entry.height:,})"
    return entry.photo.file


def _classes(facts: Sequence[Facts]) -> tuple[str, ...]:
    return tuple(sorted({entry.photo.class_name for entry in facts if entry.photo.class_name is not None}))
