"""The table of methods: runs side by side."""

from collections.abc import Sequence
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.storage import csv_line

HEADER = (
    "method",
    "backbone",
    "optimizer",
    "parameters",
    "validation_accuracy",
    "validation_low",
    "validation_high",
    "validation_images",
    "test_accuracy",
    "test_low",
    "test_high",
    "test_images",
    "minutes",
    "seeds",
    "validation_deviation",
    "test_deviation",
    "validation_note",
    "test_photos_sha256",
    "test_score",  # of a leaderboard
)
TITLES = ("method", "backbone", "optimiser", "parameters", "validation", "test", "minutes")
Row = dict[str, Any]


def table(results: Sequence[tuple[str, dict[str, Any]]]) -> list[Row]:
    """One row per run.

    Args:
        results: name and `result.json` of each run.

    Raises:
        UsageError: two runs were trained or validated on different photos.
    """
    splits = {result["split"]["fingerprint"] for _, result in results}
    if len(splits) > 1:
        groups: dict[str, list[str]] = {}
        for name, result in results:
            groups.setdefault(result["split"]["fingerprint"], []).append(name)
        parted = " against ".join(", ".join(names) for names in groups.values())
        raise UsageError(
            f"these runs have different splits, so their figures cannot be compared: {parted}; "
            "train them on the same split, as fieldguide experiment does"
        )
    return [_row(name, result) for name, result in results]


def _row(name: str, result: dict[str, Any]) -> Row:
    validation, test = result["validation"], result.get("test") or {}
    return {
        "method": name,
        "backbone": result["backbone"],
        "optimizer": result["optimizer"],
        "parameters": result["parameters"]["total"],
        "validation_accuracy": validation["accuracy"],
        "validation_low": validation["accuracy_low"],
        "validation_high": validation["accuracy_high"],
        "validation_images": validation["images"],
        "test_accuracy": test.get("accuracy"),
        "test_low": test.get("accuracy_low"),
        "test_high": test.get("accuracy_high"),
        "test_images": test.get("images"),
        "minutes": result["seconds"] / 60,
        "seeds": 1,
        "validation_deviation": None,
        "test_deviation": None,
        "validation_note": f"chosen on these photos: {validation['chose']['text']}",
        "test_photos_sha256": test.get("photos_sha256"),
        "test_score": None,
    }


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, under TITLES."""
    test = "not evaluated" if row["test_accuracy"] is None else interval(row, "test")
    if row["test_accuracy"] is None and row["test_score"] is not None:
        test = f"{row['test_score']:.3f} (leaderboard)"
    return (
        row["method"],
        row["backbone"],
        row["optimizer"],
        f"{row['parameters'] / 1e6:.1f}M",
        interval(row, "validation"),
        test,
        f"{row['minutes']:.1f}",
    )


def interval(row: Row, part: str) -> str:
    """An accuracy with its 95 % interval; for several seeds their mean, with standard deviation."""
    accuracy, low, high = (row[f"{part}_{name}"] for name in ("accuracy", "low", "high"))
    deviation = row[f"{part}_deviation"]
    if deviation is None:
        return f"{accuracy:.3f} ({low:.3f} to {high:.3f})"
    # with few seeds the interval can exceed 0 and 1
    return f"{accuracy:.3f} ± {deviation:.3f} ({max(low, 0):.3f} to {min(high, 1):.3f})"


def remarks_on_test(rows: Sequence[Row]) -> list[str]:
    """Warnings if test figures are, or may be, from different photos.

    Args:
        rows: of the table; means over seeds are skipped. Figures of earlier versions do not name their photos.
    """
    tested = [row for row in rows if row["test_accuracy"] is not None and row["seeds"] == 1]
    groups: dict[tuple[str, int], list[str]] = {}
    for row in tested:
        if row["test_photos_sha256"] is not None:
            groups.setdefault((row["test_photos_sha256"], row["test_images"]), []).append(row["method"])
    unknown = [row["method"] for row in tested if row["test_photos_sha256"] is None]
    found = []
    if len(groups) > 1:
        parted = " against ".join(f"{', '.join(names)} ({count:,})" for (_, count), names in groups.items())
        found.append(
            f"the test figures are from different photos, so they cannot be compared: {parted}; evaluate these runs on "
            "the same test photos"
        )
    if unknown and len(tested) > 1:
        found.append(
            f"the test photos of {', '.join(unknown)} are unknown (evaluated by an earlier version), so these figures "
            "may not compare; run fieldguide evaluate again"
        )
    return found


def footnote(rows: Sequence[Row]) -> str:
    """How to read the table."""
    counts = ({row[f"{part}_images"] or 0 for row in rows} - {0} for part in ("validation", "test"))
    judged, tested = (" and ".join(f"{count:,}" for count in sorted(of)) for of in counts)
    text = f"95 % intervals (Wilson); validation: {judged} photos, which also chose the epoch"
    text += f"; test: {tested} photos" if tested else ""
    if any(row["test_score"] is not None for row in rows):
        text += "; leaderboard: scores as given, without interval"
    if any(row["seeds"] > 1 for row in rows):
        text += (
            "; means: ± standard deviation over seeds, and Student's t-interval of the mean, "
            "for other seeds on the same photos"
        )
    return text


def to_csv(rows: Sequence[Row]) -> str:
    """The table as CSV with full precision."""
    texts = (["" if row[name] is None else str(row[name]) for name in HEADER] for row in rows)
    return "".join(map(csv_line, (HEADER, *texts)))


def to_markdown(rows: Sequence[Row], sentences: Sequence[str] = ()) -> str:
    """The table in Markdown, with its footnote and the sentences about its runs as a list."""
    lines = ["| " + " | ".join(TITLES) + " |", "|" + " --- |" * len(TITLES)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    said = "".join(f"- {_one_line(sentence)}\n" for sentence in sentences)
    return "\n".join(lines) + f"\n\n{footnote(rows)}\n" + (f"\n{said}" if said else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
