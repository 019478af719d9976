"""The photos that a training's first weights have seen, by content: they may train again, but never validate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fieldguide.commands.judging.models import run_of, split_of
from fieldguide.commands.judging.seen_before import Before, read_before, write_before
from fieldguide.data.look.findings import Remark, Topic
from fieldguide.errors import PhotosError, counted, listing
from fieldguide.model.description import DESCRIPTION_FILE
from fieldguide.run_folder import RunFolder


@dataclass(frozen=True)
class Seen:
    """What is known of earlier trainings; remarks on weights whose training photos are unknown.

    `before` says what each source of weights was trained on; nothing for the Hub or a plain file of weights.
    """

    before: Mapping[str, Before] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    @cached_property
    def by(self) -> dict[str, str]:
        """The source of weights that was trained on a content, by content (SHA-256 of the file)."""
        return {content: source for source, before in self.before.items() for content in before.contents}

    def only(self, source: str) -> "Seen":
        """The part that concerns a training from `source`, where several share photos and split."""
        return Seen({name: before for name, before in self.before.items() if name == source}, self.remarks)


def seen_by_weights(sources: Iterable[str]) -> Seen:
    """What weights of an earlier run or bundle (`model.weights`) were trained on, and what that run started from."""
    found: dict[str, Before] = {}
    remarks = []
    for source in dict.fromkeys(sources):
        path = Path(source)
        if source in ("hub", "none"):
            continue
        if path.is_file() and (path.parent / DESCRIPTION_FILE).is_file():
            path = path.parent  # a bundle's own file of weights
        if not path.is_dir():
            continue
        split, run = split_of(path), run_of(path)
        if split is None:
            words = f"{source}: bundle without its run: training photos unknown. If val or test photos are among them, "
            remarks.append(Remark(Topic.SEEN_BEFORE, words + "accuracy is too high", (source,)))
            found[source] = Before(unknown=(source,))
            continue
        own = frozenset(row.content_hash for row in split.part("train") if row.content_hash)
        before = read_before(run) if run else Before()
        found[source] = Before(own | before.contents, before.unknown)
    return Seen(found, tuple(remarks))


def demand_no_fold_was_seen(seen: Seen, hash_of: Mapping[str, str], leaks: str) -> list[Remark]:
    """Each photo is held out by some fold, so raises PhotosError if earlier trainings know any; a remark if `leaks`
    allows it.

    `hash_of` has the content of each photo, by its name.
    """
    found = [file for file, content in hash_of.items() if content in seen.by]
    if not found:
        return []
    count = counted(len(found), "photo")
    if leaks == "allow":
        words = f"model.weights was trained on {count}, which data.leaks allows: the accuracy of the folds is too high"
        return [Remark(Topic.SEEN_BEFORE, words, tuple(found))]
    raise PhotosError(
        f"model.weights was trained on {count} that split.folds would hold out, so the accuracy would be wrong:\n"
        f"{listing([f'{file}, seen by {seen.by[hash_of[file]]}' for file in found])}\n"
        "Start from other weights (model.weights), or add --set data.leaks=allow"
    )


def seen_by_runs(paths: Iterable[Path]) -> frozenset[str]:
    """The contents that the first weights of these runs were trained on; a bundle without its run adds none."""
    runs = (run_of(path) for path in paths)
    return frozenset(content for run in runs if run is not None for content in read_before(run).contents)


def write_seen(run: RunFolder, seen: Seen) -> None:
    """Keeps it with a run, for trainings that start from it; writes no file if there is nothing to keep."""
    unknown = [source for before in seen.before.values() for source in before.unknown]
    write_before(run, Before(frozenset(seen.by), tuple(dict.fromkeys(unknown))))
