"""What becomes of photos that a table and its folder disagree about, as a recipe decides."""

from collections.abc import Sequence

from fieldguide.data.look.findings import Finding, Kind, Remark, Topic, some
from fieldguide.data.look.scan import Listed, PhotoFolder
from fieldguide.errors import counted, listing

REFUSE = "refuse"


def listed_problems(
    folder: PhotoFolder, missing: str, unlabelled: str, two_labels: str
) -> tuple[list[str], list[Remark]]:
    """What is refused, and what a person should know, by `refuse` or `exclude` for each kind of disagreement."""
    problems: list[str] = []
    remarks: list[Remark] = []
    if folder.listed is None:
        return problems, remarks
    for field, rule, names, one, several, what_now in _kinds(folder, folder.listed, missing, unlabelled, two_labels):
        words = f"1 {one}" if len(names) == 1 else f"{len(names):,} {several}"
        if names and rule == REFUSE:
            problems.append(
                f"{folder.name}: {words}:\n{listing(names)}\n{what_now}, or leave them out: --set {field}=exclude"
            )
        elif names:
            remarks.append(Remark(Topic.TABLE, f"{words}; left out:\n{listing(names)}", tuple(names)))
    if left_out := folder.listed.left_out:
        remarks.append(Remark(Topic.TABLE, f"{counted(left_out, 'photo')} excluded by the table's own part column"))
    return problems, remarks


def _kinds(
    folder: PhotoFolder, listed: Listed, missing: str, unlabelled: str, two_labels: str
) -> list[tuple[str, str, Sequence[str], str, str, str]]:
    there = f"not in {folder.root}"
    return [
        (
            "data.missing", missing, listed.missing, f"photo of the table is {there}",
            f"photos of the table are {there}", "Add them, or correct the names",
        ),
        (
            "data.unlabelled", unlabelled, listed.unlabelled, "photo has no label in the table",
            "photos have no label in the table", "Add them to the table",
        ),
        (
            "data.two_labels", two_labels, listed.two_labels, "photo has two labels in the table",
            "photos have two labels in the table", "Correct the table",
        ),
    ]  # fmt: skip


def listed_findings(folder: PhotoFolder) -> list[Finding]:
    """The same for `check`."""
    if folder.listed is None:
        return []
    found = []
    for kind, names, what in (
        (Kind.MISSING_PHOTO, folder.listed.missing, "in the table but not in the folder"),
        (Kind.LISTED_TWO_LABELS, folder.listed.two_labels, "two labels in the table"),
        (Kind.UNLABELLED, folder.listed.unlabelled, "no label in the table"),
    ):
        if names:
            found.append(Finding(kind, (), (), tuple(names), f"{what}: {some(list(names))}"))
    return found
