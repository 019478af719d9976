"""Photos of one part that a model has seen in another, or in an earlier training: refused, left out, or told."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fieldguide.data.look.groups import joined
from fieldguide.errors import PhotosError, counted, listing


class Placed(Protocol):
    """A photo that has its part; `data.split.Row` is one."""

    @property
    def file(self) -> str:
        """Its name below the folder of photos."""

    @property
    def part(self) -> str:
        """`train`, `val`, `test` or `excluded`."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file; empty where it could not be read."""


class Dealt(NamedTuple):
    """What is to be done.

    Attributes:
        excluded: of each file that is left out, why.
        remarks: sentences that a person should read.
    """

    excluded: dict[str, str]
    remarks: list[str]


NOTHING = Dealt({}, [])


def same_content(rows: Sequence[Placed], leaks: str) -> Dealt:
    """Training photos whose very content stands in validation or test as well.

    Raises:
        PhotosError: there are some, and `leaks` is refuse.
    """
    elsewhere: dict[str, Placed] = {}
    for row in rows:
        if row.part in ("val", "test") and row.content_hash:
            elsewhere.setdefault(row.content_hash, row)
    leaking = [
        (row, elsewhere[row.content_hash]) for row in rows if row.part == "train" and row.content_hash in elsewhere
    ]
    if not leaking:
        return NOTHING
    count = counted(len(leaking), "training photo")
    if leaks == "refuse":
        pairs = [f"{row.file} is the same photo as {other.file}" for row, other in leaking]
        raise PhotosError(
            f"{count} also in val or test, so the accuracy would be wrong:\n"
            + listing(pairs)
            + "\nRemove them, or add --set data.leaks=drop (drops them from training) or --set data.leaks=allow"
        )
    if leaks == "allow":
        return Dealt({}, [f"{count} also in val or test, and the recipe allows it: the accuracy is too high"])
    excluded = {row.file: f"same photo as {other.file}" for row, other in leaking}
    return Dealt(excluded, [f"{count} dropped: also in val or test"])


def same_group(
    rows: Sequence[Placed], leaks: str, together: Sequence[Sequence[str]], torn: Sequence[Sequence[str]] = ()
) -> Dealt:
    """Groups of which the folders hold some photos in training and others elsewhere.

    Args:
        rows: all photos.
        leaks: as for `data.split.make_split`.
        together: names of files that belong together.
        torn: names of the files of each near pair that stand in different parts, in a group or not. Whoever is only
            linked to such a pair, over look-alikes of its own part, is none: a chain's ends may be different photos.
    """
    exact = {row.content_hash for row in rows if row.part in ("val", "test")}  # these are leaks, dealt with before
    part = {row.file: row.part for row in rows if row.part != "train" or row.content_hash not in exact}
    elsewhere: dict[str, str] = {}
    # Joined, for a burst belongs with what one of its frames is paired with; then pair by pair, so that the reason
    # names the very photo.
    for files in (*joined((*together, *torn)), *torn):
        outside = [file for file in files if part.get(file) in ("val", "test")]
        if outside:
            elsewhere |= {file: outside[0] for file in files if part.get(file) == "train"}
    if not elsewhere:
        return NOTHING
    count = counted(len(elsewhere), "training photo")
    if leaks != "drop":
        return Dealt(
            {},
            [
                f"{count} nearly the same as, or of one group with, photos in val or test: accuracy too high "
                "(fieldguide check names them, data.leaks=drop leaves them out)"
            ],
        )
    excluded = {file: f"belongs with {other}" for file, other in elsewhere.items()}
    return Dealt(excluded, [f"{count} dropped: nearly the same as, or of one group with, photos in val or test"])


def seen_before(rows: Sequence[Placed], leaks: str, seen: Mapping[str, str]) -> Dealt:
    """Validation and test photos that the first weights were trained on.

    Args:
        rows: all photos.
        leaks: as for `data.split.make_split`.
        seen: of each content that they were trained on, by which run.

    Raises:
        PhotosError: there are some, and `leaks` is refuse.
    """
    found = [row for row in rows if row.part in ("val", "test") and row.content_hash in seen]
    if not found:
        return NOTHING
    count = counted(len(found), "photo")
    if leaks == "refuse":
        lines = [f"{row.file} was trained on by {seen[row.content_hash]}" for row in found]
        raise PhotosError(
            f"{count} of val or test were trained on by the weights that this training starts from, so the accuracy "
            "would be wrong:\n"
            + listing(lines)
            + "\nStart from other weights (model.weights), or add --set data.leaks=drop (leaves them out of val and "
            "test) or --set data.leaks=allow"
        )
    if leaks == "allow":
        why = "the accuracy is too high"
        return Dealt({}, [f"{count} of val or test trained on by model.weights, and the recipe allows it: {why}"])
    excluded = {row.file: f"trained on by {seen[row.content_hash]} (model.weights)" for row in found}
    return Dealt(excluded, [f"{count} left out of val or test: trained on by model.weights"])
