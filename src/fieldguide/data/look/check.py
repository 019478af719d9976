"""Checks a folder of photos before training: files, duplicates, classes, names, layout."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fieldguide.data.look import near
from fieldguide.data.look.class_findings import Counts, class_findings, count, layout_findings, name_findings
from fieldguide.data.look.duplicates import Duplicates, duplicate_findings, find_duplicates
from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import Finding, Kind, some
from fieldguide.data.look.listed_rules import listed_findings
from fieldguide.data.look.scan import PhotoFolder, summary
from fieldguide.data.look.value_range import in_words, measure, range_findings

REASON_KINDS = {
    "unreadable": Kind.UNREADABLE,
    "truncated": Kind.TRUNCATED,
    "empty": Kind.EMPTY_FILE,
    "not_an_image": Kind.NOT_AN_IMAGE,
    "bomb": Kind.BOMB,
    "no_decoder": Kind.DECODER_MISSING,
    "bands": Kind.BANDS,
}
TOGETHER = ("no_decoder", "bands")  # all files with one such reason are one finding
TRAITS = {
    Kind.WRONG_ENDING: "the ending names another format than the content",
    Kind.TINY: "the shorter side is under 32 pixels",
    Kind.ELONGATED: "over 5 times as long as wide",
    Kind.ANIMATED: "several pictures in one file; only the first is used",
    Kind.EXIF_ROTATED: "turned by the camera; used upright",
    Kind.ALPHA: "transparency; laid on white",
    Kind.SIXTEEN_BIT: "more than 8 bits per channel; used with 8",
    Kind.CMYK: "printing colours; converted to RGB",
    Kind.GRAYSCALE: "no colour channels",
}


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    findings: tuple[Finding, ...]  # in the order of `Kind`
    used: str  # what will be train, val and test, in one sentence
    counts: Counts  # readable photos of each class
    duplicates: Duplicates  # with the groups that a split keeps together


def check_photos(
    folder: PhotoFolder,
    facts: Sequence[Facts],
    advance: Callable[[float], None] = lambda _: None,
    is_late: Callable[[], bool] = lambda: False,
) -> Checked:
    """All findings, from the facts of every photo; `advance` gets the share compared since the last call.

    Where `is_late`, near duplicates are only those found so far.
    """
    duplicates = find_duplicates(facts, advance, is_late)
    counts = count(folder, [entry.photo for entry in facts if not entry.reason], duplicates.file_groups)
    findings = [
        *_file_findings(facts),
        *range_findings(facts),
        *duplicate_findings(duplicates),
        *class_findings(folder, counts),
        *name_findings(folder, counts),
        *layout_findings(folder),
        *listed_findings(folder),
    ]
    rank = {kind: place for place, kind in enumerate(Kind)}
    findings.sort(key=lambda finding: rank[finding.kind])  # stable: files stay in their order
    unreadable = sum(1 for entry in facts if entry.reason)
    used = summary(folder) + (f"; {unreadable:,} of these cannot be read" if unreadable else "")
    if len(facts) > near.MOST_COMPARED:
        used += "; for near duplicates, each was compared only with photos that look alike roughly"
    return Checked(tuple(findings), used, counts, duplicates)


def _file_findings(facts: Sequence[Facts]) -> Iterator[Finding]:
    """One finding per unreadable file, missing decoder and number of bands; one per part for each oddity."""
    yield from _told_together(facts)
    for entry in facts:
        if entry.reason and entry.reason_kind not in TOGETHER:
            photo = entry.photo
            message = f"{photo.file} {entry.reason}"
            yield Finding(REASON_KINDS[entry.reason_kind], (photo.part,), _classes([entry]), (photo.file,), message)
    auto = in_words(measure(facts))
    for trait, what in TRAITS.items():
        for part in ("train", "val", "test"):
            having = [entry for entry in facts if trait in entry.traits and entry.photo.part == part]
            if having:
                files = tuple(_described(entry, trait) for entry in having)
                names = tuple(entry.photo.file for entry in having)
                words = f"{what}, {auto}" if trait is Kind.SIXTEEN_BIT and auto else what
                yield Finding(trait, (part,), _classes(having), names, f"{words}: {some(files)}")


def _told_together(facts: Sequence[Facts]) -> Iterator[Finding]:
    alike = [entry for entry in facts if entry.reason_kind in TOGETHER]
    for kind, reason in dict.fromkeys((entry.reason_kind, entry.reason) for entry in alike):
        having = [entry for entry in alike if entry.reason == reason]
        names = tuple(entry.photo.file for entry in having)
        parts = tuple(part for part in ("train", "val", "test") if any(entry.photo.part == part for entry in having))
        message = f"{names[0]} {reason}" if len(names) == 1 else f"each of {len(names):,} files {reason}: {some(names)}"
        yield Finding(REASON_KINDS[kind], parts, _classes(having), names, message)


def _described(entry: Facts, trait: Kind) -> str:
    if trait is Kind.WRONG_ENDING:
        return f"{entry.photo.file} (is {entry.format})"
    if trait in (Kind.TINY, Kind.ELONGATED):
        return f"{entry.photo.file} ({entry.width:,} x {entry.height:,})"
    if trait is Kind.SIXTEEN_BIT and entry.values is not None:
        return f"{entry.photo.file} ({entry.values.low:,.6g} to {entry.values.high:,.6g})"
    return entry.photo.file


def _classes(facts: Sequence[Facts]) -> tuple[str, ...]:
    return tuple(sorted({entry.photo.class_name for entry in facts if entry.photo.class_name is not None}))
