"""Photos that leak from one part into another, or from an earlier training: refused, left out, or reported."""

from collections.abc import Mapping, Sequence

from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.look.groups import joined
from fieldguide.data.split.partition import Row
from fieldguide.errors import PhotosError, counted, listing

Dealt = tuple[dict[str, str], list[Remark]]  # why each file is left out, and what a person should read
NOTHING: Dealt = ({}, [])


def _dealt(excluded: dict[str, str], topic: Topic, words: str) -> Dealt:
    return excluded, [Remark(topic, words, tuple(excluded))]


def same_content(rows: Sequence[Row], leaks: str) -> Dealt:
    """Training photos whose content is also in val or test; raises PhotosError if `leaks` is refuse."""
    elsewhere: dict[str, Row] = {}
    for row in rows:
        if row.part in ("val", "test") and row.content_hash:
            elsewhere.setdefault(row.content_hash, row)
    leaking = [row for row in rows if row.part == "train" and row.content_hash in elsewhere]
    if not leaking:
        return NOTHING
    count = counted(len(leaking), "training photo")
    if leaks == "refuse":
        pairs = [f"{row.file} is the same photo as {elsewhere[row.content_hash].file}" for row in leaking]
        raise PhotosError(
            f"{count} also in val or test, so the accuracy would be wrong:\n"
            + listing(pairs)
            + "\nRemove them, or add --set data.leaks=drop (drops them from training) or --set data.leaks=allow"
        )
    if leaks == "allow":
        words = f"{count} also in val or test, which data.leaks allows: the accuracy is too high"
        return _dealt({}, Topic.ACROSS_PARTS, words)
    excluded = {row.file: f"same photo as {elsewhere[row.content_hash].file}" for row in leaking}
    return _dealt(excluded, Topic.ACROSS_PARTS, f"{count} dropped: also in val or test")


def same_group(
    rows: Sequence[Row], leaks: str, together: Sequence[Sequence[str]], torn: Sequence[Sequence[str]] = ()
) -> Dealt:
    """Groups with photos both in training and in validation or test; see `make_split` for the arguments.

    A photo that is only linked to a torn pair by look-alikes of its own part does not count: the ends of a chain may be
    different photos.
    """
    exact = {row.content_hash for row in rows if row.part in ("val", "test")}  # `same_content` handles these
    part = {row.file: row.part for row in rows if row.part != "train" or row.content_hash not in exact}
    elsewhere: dict[str, str] = {}
    # First joined, because a burst belongs with whatever one of its frames is paired with. Then pair by pair, so that
    # the reason names the exact photo.
    for files in (*joined((*together, *torn)), *torn):
        outside = [file for file in files if part.get(file) in ("val", "test")]
        if outside:
            elsewhere |= {file: outside[0] for file in files if part.get(file) == "train"}
    if not elsewhere:
        return NOTHING
    count = counted(len(elsewhere), "training photo")
    if leaks != "drop":
        words = (
            f"{count} near a val or test photo, or in its group; accuracy may be too high. fieldguide check lists near "
            "duplicates; data.leaks=drop leaves all of them out"
        )
        return _dealt({}, Topic.ACROSS_PARTS, words)
    excluded = {file: f"belongs with {other}" for file, other in elsewhere.items()}
    words = f"{count} dropped: near a val or test photo, or in its group"
    return _dealt(excluded, Topic.ACROSS_PARTS, words)


def seen_before(rows: Sequence[Row], leaks: str, seen: Mapping[str, str]) -> Dealt:
    """Validation and test photos that the first weights were trained on; `seen` has the run by content.

    Raises PhotosError for these if `leaks` is refuse.
    """
    found = [row for row in rows if row.part in ("val", "test") and row.content_hash in seen]
    if not found:
        return NOTHING
    count = counted(len(found), "photo")
    if leaks == "refuse":
        lines = [f"{row.file}, seen by {seen[row.content_hash]}" for row in found]
        raise PhotosError(
            f"model.weights was trained on {count} of val or test, so the accuracy would be wrong:\n"
            + listing(lines)
            + "\nStart from other weights (model.weights), or add --set data.leaks=drop (leaves them out of val and "
            "test) or --set data.leaks=allow"
        )
    if leaks == "allow":
        words = (
            f"model.weights was trained on {count} of val or test, which data.leaks allows: the accuracy is too high"
        )
        return _dealt({}, Topic.SEEN_BEFORE, words)
    excluded = {row.file: f"trained on by {seen[row.content_hash]} (model.weights)" for row in found}
    words = f"{count} left out of val or test: model.weights was trained on them"
    return _dealt(excluded, Topic.SEEN_BEFORE, words)
