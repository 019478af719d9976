"""`seen_before.txt` of a run: what its first weights were trained on, one line each."""

from dataclasses import dataclass

from fieldguide.errors import UsageError
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_text, write_text

UNKNOWN = "unknown: "  # in the file, before weights with unknown photos; any other line is a content


@dataclass(frozen=True)
class Before:
    """What weights were trained on, including all earlier trainings: contents are SHA-256 of the files.

    `unknown` are earlier weights whose photos are unknown: a file, or a bundle without its run.
    """

    contents: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()


def write_before(run: RunFolder, before: Before) -> None:
    """Keeps it with a run; writes no file if there is nothing to keep."""
    lines = [*sorted(before.contents), *(UNKNOWN + " ".join(source.split()) for source in before.unknown)]
    if lines:
        write_text(run.seen_before, "".join(f"{line}\n" for line in lines))


def read_before(run: RunFolder) -> Before:
    """What a run's first weights were trained on (old versions kept only contents); raises UsageError if unreadable."""
    if not run.seen_before.is_file():
        return Before()
    try:
        lines = [line.strip() for line in read_text(run.seen_before).split("\n")]
    except (OSError, ValueError) as error:
        raise UsageError(f"{run.seen_before}: cannot be read ({error})") from None
    unknown = tuple(line.removeprefix(UNKNOWN) for line in lines if line.startswith(UNKNOWN))
    return Before(frozenset(line for line in lines if line and not line.startswith(UNKNOWN)), unknown)
