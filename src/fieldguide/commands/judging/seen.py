"""Which photos the first weights of a training were trained on, by content: they may train again, never validate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fieldguide.commands.judging.models import run_of, split_of
from fieldguide.commands.judging.seen_before import Before, read_before, write_before
from fieldguide.errors import PhotosError, counted, listing
from fieldguide.model.bundle import DESCRIPTION_FILE
from fieldguide.run_folder import RunFolder


@dataclass(frozen=True)
class Seen:
    """What is known of the trainings before.

    Attributes:
        before: of each source of weights, what it was trained on; none of the Hub, and of a file of weights alone.
        remarks: sentences about weights of which nobody can tell.
    """

    before: Mapping[str, Before] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @cached_property
    def by(self) -> dict[str, str]:
        """Of each content (SHA-256 of the file), which source of weights was trained on it."""
        return {content: source for source, before in self.before.items() for content in before.contents}

    def only(self, source: str) -> "Seen":
        """Of the trainings that share photos and split, what the one that starts from `source` has to do with."""
        return Seen({name: before for name, before in self.before.items() if name == source}, self.remarks)


def seen_by_weights(sources: Iterable[str]) -> Seen:
    """What weights were trained on, where they are an earlier run's or its bundle's, and what its own began from.

    Args:
        sources: `model.weights` of recipes.

    Raises:
        UsageError: a run whose split is damaged.
    """
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
            remarks.append(
                f"{source}: is a bundle that left its run, so nobody can tell which photos it was trained on; if "
                "photos of val or test are among them, the accuracy is too high"
            )
            found[source] = Before(unknown=(source,))
            continue
        own = frozenset(row.content_hash for row in split.part("train") if row.content_hash)
        before = read_before(run) if run else Before()
        found[source] = Before(own | before.contents, before.unknown)
    return Seen(found, tuple(remarks))


def demand_no_fold_was_seen(seen: Seen, hash_of: Mapping[str, str], leaks: str) -> list[str]:
    """Every photo is held out by some fold, so none may have been trained on before; what is said where it is allowed.

    Args:
        seen: by the first weights.
        hash_of: of each photo's name the content.
        leaks: of the recipe.

    Raises:
        PhotosError: there are some, and `leaks` is not allow.
    """
    found = [file for file, content in hash_of.items() if content in seen.by]
    if not found:
        return []
    count = counted(len(found), "photo")
    if leaks == "allow":
        return [f"{count} trained on by model.weights before a fold holds them out, and the recipe allows it: too high"]
    raise PhotosError(
        f"split.folds holds out every photo, and {count} were trained on by the weights that each fold would start "
        f"from, so no figure would be right:\n{listing([f'{file}, by {seen.by[hash_of[file]]}' for file in found])}\n"
        "Start from other weights (model.weights), or add --set data.leaks=allow"
    )


def seen_by_runs(paths: Iterable[Path]) -> frozenset[str]:
    """The contents that the first weights of runs were trained on, itself or by its bundle; none of a bundle alone."""
    runs = (run_of(path) for path in paths)
    return frozenset(content for run in runs if run is not None for content in read_seen(run))


def write_seen(run: RunFolder, seen: Seen) -> None:
    """Keeps it with a run, for those that start from it; nothing where there is nothing to tell."""
    unknown = [source for before in seen.before.values() for source in before.unknown]
    write_before(run, Before(frozenset(seen.by), tuple(dict.fromkeys(unknown))))


def read_seen(run: RunFolder) -> frozenset[str]:
    """The contents that a run's first weights were trained on.

    Raises:
        UsageError: the file cannot be read.
    """
    return read_before(run).contents
