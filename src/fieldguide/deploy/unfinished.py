"""Predictions that were interrupted, kept beside their output, so that the same command goes on.

A line of JSON a batch. A batch is computed whole or again: the numbers of a photo may depend on those beside it in the
last bits, so a resumed prediction computes the same batches as an uninterrupted one and gives the same bytes. A photo
that changed since is seen by its size and time, and predicted again with all photos from its batch on.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from fieldguide.errors import MachineError, UsageError
from fieldguide.storage import digest, is_written_through, printable

FORMAT = 2
ENDING = ".partial"
STDOUT = "-"  # the output that is standard output


class Row(NamedTuple):
    """A photo's line in the output, and what the end of a command tells of it."""

    line: str
    name: str
    label: str
    status: str  # `ok`, `unsure` or `failed`
    reason: str


class Unfinished:
    """The batches of one prediction that are done."""

    def __init__(self, output: Path, about: str, batch_size: int, stamps: Sequence[str] = ()) -> None:
        """Nothing is read or written yet; `about` is a checksum of everything that decides the output but the photos.

        `stamps` differ where a photo has changed, one for each.
        """
        # a device, a pipe and standard output have no place beside them
        self.is_elsewhere = str(output) == STDOUT or is_written_through(output)
        place = Path(tempfile.mkdtemp()) / "rows" if self.is_elsewhere else Path(os.path.realpath(output))
        self.path = place.with_name(output.name + ENDING)
        self.done = 0  # rows
        self.engines: list[str] = []  # that the first batch was computed by
        self.has_changed = False  # whether a photo has, whose row was kept
        self._about, self._batch_size, self._stamps = about, batch_size, stamps

    def begin(self, *, resume: bool) -> bool:
        """Starts over, or goes on where the last whole batch ended; whether there is something to go on with.

        Raises UsageError if what is kept is of another command, or cannot be written.
        """
        kept = self._read() if resume else None
        try:
            if kept is None:
                with self.path.open("w", encoding="utf-8") as file:
                    file.write(json.dumps({"format": FORMAT, "about": self._about}) + "\n")
            else:
                os.truncate(self.path, kept)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written ({error.strerror or error})") from None
        return bool(self.done)

    def add(self, rows: Sequence[Row], engines: Sequence[str]) -> None:
        """Keeps a batch; `engines` computed it. Raises MachineError if there is no room."""
        entry: dict[str, Any] = {"rows": [list(row) for row in rows], "photos": self._stamp(len(rows))}
        if not self.done:
            self.engines = list(engines)
            entry["engines"] = self.engines
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            why = f"{self.path}: cannot be written ({error.strerror or error})"
            raise MachineError(f"{why}; make room there, then go on with the same command and --resume") from None
        self.done += len(rows)

    def rows(self) -> Iterator[Row]:
        """All rows that are done, in their order."""
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                yield from (Row(*row) for row in json.loads(line)["rows"])

    def remove(self) -> None:
        """The output is written."""
        self.path.unlink(missing_ok=True)
        if self.is_elsewhere:
            self.path.parent.rmdir()

    def _stamp(self, count: int) -> str:
        """A checksum of the next photos as they are."""
        return digest("\n".join(self._stamps[self.done : self.done + count]).encode())[:16]

    def _read(self) -> int | None:
        """Counts the rows of whole batches; the bytes that these take, or None if nothing is kept."""
        try:
            with self.path.open("rb") as file:
                head = _parsed(file.readline())
                if head is None:
                    return None  # killed before the first line was whole
                if head.get("format") != FORMAT or head.get("about") != self._about:
                    raise UsageError(
                        f"{self.path}: is of another command, or the model or the list of photos has changed; "
                        "start over without resuming"
                    )
                end = file.tell()
                while (entry := _parsed(file.readline())) is not None:
                    if entry.get("photos") != self._stamp(len(entry["rows"])):
                        self.has_changed = True
                        break
                    self.engines = entry.get("engines", self.engines)
                    self.done += len(entry["rows"])
                    end = file.tell()
                    if len(entry["rows"]) < self._batch_size:
                        break  # the last one
                return end
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read ({error.strerror or error})") from None


def in_batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of `size`; the last may be shorter."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class Rest(Sequence[Any]):
    """The photos that a resumed prediction computes: the first batch again, by which the engine is checked, and those
    that are not done; it counts as all of them, because the number decides the engine.
    """

    def __init__(self, photos: Sequence[Any], batch_size: int, done: int) -> None:
        self._photos = photos
        self._batch_size, self._done = batch_size, done

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place: Any) -> Any:
        return self._photos[place]

    def __iter__(self) -> Iterator[Any]:
        yield from self._photos[: self._batch_size]
        yield from self._photos[max(self._done, self._batch_size) :]

    @property
    def again(self) -> int:
        """How many photos at the beginning are computed for the second time."""
        return min(self._batch_size, len(self._photos)) if self._done else 0


def stamp_of(photo: Any) -> str:
    """A text that differs after a file has changed: its size and time, or a checksum of bytes; empty if unknown."""
    if isinstance(photo, bytes | bytearray | memoryview):
        return digest(bytes(photo))
    if not isinstance(photo, str | Path):
        return ""
    try:
        status = Path(photo).stat()
    except (OSError, ValueError):  # ValueError: a name with a NUL in it
        return "none"
    return f"{status.st_size} {status.st_mtime_ns}"


def about_prediction(photos: Sequence[tuple[str, Any]], models: Sequence[str], options: tuple[object, ...]) -> str:
    """A checksum of all that decides the output: models, list of photos, options, versions."""
    named = [(name, str(place) if isinstance(place, str | Path) else "") for name, place in photos]
    versions = [version(name) for name in ("fieldguide", "torch", "pillow", "numpy")]
    return digest(printable(repr((list(models), named, options, versions))).encode())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A whole line; None if it is cut off."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
