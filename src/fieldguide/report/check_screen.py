"""The findings of a check as lines for a terminal."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fieldguide.errors import counted

MOST_CLASSES = 40
SHOWN_FILES = 3
NAME_WIDTH = 24
BAR_WIDTH = 40
PARTS = ("train", "val", "test")


class Line(NamedTuple):
    """A line with its rich style; None: plain."""

    text: str
    style: str | None = None


def check_lines(report: Mapping[str, Any], width: int = 100) -> list[Line]:
    """The lines of a check's result.

    Args:
        report: as in `--json`.
        width: of the screen, in characters; longer messages are cut.
    """
    lines = [Line(report["used"], "bold"), Line("")]
    lines += _bars(report["classes"])
    lines += _findings(report["findings"], max(width, NAME_WIDTH + BAR_WIDTH))
    return [*lines, _verdict(report["findings"])]


def _bars(classes: list[dict[str, Any]]) -> Iterator[Line]:
    """One bar per class, in natural order; of many classes only the first, then a summary."""
    largest = max((entry["train"] for entry in classes), default=0)
    widest = min(NAME_WIDTH, max((len(entry["name"]) for entry in classes), default=0))
    for entry in classes[:MOST_CLASSES]:
        filled = round(BAR_WIDTH * entry["train"] / largest) if largest else 0
        bar = "█" * max(filled, int(entry["train"] > 0))
        others = "".join(f"  {part} {entry[part]:,}" for part in PARTS[1:] if entry[part])
        yield Line(f"{_cut(entry['name'], widest):<{widest}} {entry['train']:>7,} {bar}{others}")
    rest = classes[MOST_CLASSES:]
    if rest:
        counts = [entry["train"] for entry in rest]
        yield Line(f"... and {len(rest):,} more classes with {min(counts):,} to {max(counts):,} photos", "dim")
    yield Line("")


def _findings(findings: list[dict[str, Any]], width: int) -> Iterator[Line]:
    """Findings by kind: how many, and the first few."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for finding in findings:
        kinds[finding["kind"]].append(finding)
    for kind, found in kinds.items():
        style = "bold red" if found[0]["severity"] == "harm" else "yellow"
        yield Line(f"{found[0]['severity']}  {kind}{_amount(found)}", style)
        for finding in found[:SHOWN_FILES]:
            yield Line(_cut(f"      {finding['message']}", width))
        if len(found) > SHOWN_FILES:
            yield Line(f"      ... and {len(found) - SHOWN_FILES:,} more", "dim")
    if findings:
        yield Line("")


def _amount(found: list[dict[str, Any]]) -> str:
    files = {file for finding in found for file in finding["files"]}
    if not files:
        return ""
    return f"  {counted(len(files), 'file')}" + (f" in {len(found):,} findings" if len(found) > 1 else "")


def _verdict(findings: list[dict[str, Any]]) -> Line:
    harmful = sum(finding["severity"] == "harm" for finding in findings)
    notes = len(findings) - harmful
    if harmful:
        return Line(f"{counted(harmful, 'finding')} would harm a training; {counted(notes, 'note')}", "bold red")
    return Line(f"no finding would harm a training; {counted(notes, 'note')}", "bold green")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
