"""What a run keeps of what its first weights were trained on: `seen_before.txt`, a line each."""

from dataclasses import dataclass

from fieldguide.errors import UsageError
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_text, write_text

UNKNOWN = "unknown: "  # before weights; any other line is a content


@dataclass(frozen=True)
class Before:
    """What weights were trained on, the trainings before them included.

    Attributes:
        contents: of the photos (SHA-256 of the file), as far as is known.
        unknown: weights among those before of which nobody can tell the photos: a file, a bundle that left its run.
    """

    contents: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()


def write_before(run: RunFolder, before: Before) -> None:
    """Keeps it with a run; nothing where there is nothing to tell."""
    lines = [*sorted(before.contents), *(UNKNOWN + " ".join(source.split()) for source in before.unknown)]
    if lines:
        write_text(run.seen_before, "".join(f"{line}\n" for line in lines))


def read_before(run: RunFolder) -> Before:
    """What a run's first weights were trained on; of a run of an earlier version the contents alone.

    Raises:
        UsageError: the file cannot be read.
    """
    if not run.seen_before.is_file():
        return Before()
    try:
        lines = [line.strip() for line in read_text(run.seen_before).split("\n")]
    except (OSError, ValueError) as error:
        raise UsageError(f"{run.seen_before}: cannot be read ({error})") from None
    unknown = tuple(line.removeprefix(UNKNOWN) for line in lines if line.startswith(UNKNOWN))
    return Before(frozenset(line for line in lines if line and not line.startswith(UNKNOWN)), unknown)
