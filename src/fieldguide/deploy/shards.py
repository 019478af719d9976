"""A long prediction in pieces: each piece of the photos becomes a Parquet file, whole or not at all."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldguide.deploy.answers import Answering, Prediction, Status, sentences_on_values
from fieldguide.deploy.rows import heading, row_of, write_rows
from fieldguide.deploy.stored import Stored
from fieldguide.deploy.unfinished import stamp_of
from fieldguide.errors import MachineError, UsageError
from fieldguide.storage import digest

FORMAT = 1
MANIFEST = "_manifest.jsonl"  # programs that read a folder of Parquet leave out what begins with _
TRIES = "_tries"
LOST_BEFORE_A_LOOK = 2  # times that a piece's process ended; then each photo is read in a process of its own
MOST_LOST = 5
LETHAL = "ends the process that reads it"


def part_name(number: int) -> str:
    """The file of a piece."""
    return f"part-{number:06d}.parquet"


@dataclass(frozen=True)
class Piece:
    """Photos that follow each other, with the names of their rows."""

    number: int
    names: Sequence[str]
    photos: Sequence[Path | Stored]

    @property
    def stamp(self) -> str:
        """A checksum of the photos as they are."""
        stamps = (photo.stamp if isinstance(photo, Stored) else stamp_of(photo) for photo in self.photos)
        return digest("\n".join(stamps).encode())[:16]


@dataclass(frozen=True)
class Written:
    """A piece that is done."""

    number: int
    rows: int
    failed: Sequence[tuple[str, str]]  # names and reasons
    unsure: int
    photos: str  # the stamp of the photos, taken before they were read
    engines: Sequence[str]
    remarks: Sequence[str] = ()  # on engines that failed, and on values of photos


class Manifest:
    """Which pieces of one prediction are done; only one process writes it."""

    def __init__(self, folder: Path, about: str) -> None:
        """Nothing is read or written yet; `about` is a checksum of all that decides the rows but the photos' bytes."""
        self._folder, self._about = folder, about
        self.path = folder / MANIFEST
        self.piece_photos = 0
        self.done: dict[int, Written] = {}

    @property
    def engines(self) -> list[str]:
        """The engines that the first finished piece was computed by; all others are to use them."""
        return list(next(iter(self.done.values())).engines) if self.done else []

    def begin(self, piece_photos: int) -> None:
        """A new one."""
        self.piece_photos, self.done = piece_photos, {}
        head = {"format": FORMAT, "about": self._about, "piece_photos": piece_photos}
        self.path.write_text(json.dumps(head) + "\n", encoding="utf-8")

    def resume(self) -> None:
        """Reads which pieces are done; raises UsageError if it is of another command, or cannot be read."""
        try:
            lines = [_parsed(line) for line in self.path.read_bytes().splitlines(keepends=True)]
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read ({error.strerror}); nothing can be resumed") from None
        head = lines[0] if lines else None
        if head is None or head.get("format") != FORMAT or head.get("about") != self._about:
            raise UsageError(
                f"{self._folder}: is of another command, or the model or the list of photos has changed; choose "
                "another -o"
            )
        self.piece_photos, self.done = int(head["piece_photos"]), {}
        for line in filter(None, lines[1:]):
            done = Written(**line)
            if (self._folder / part_name(done.number)).exists():
                self.done[done.number] = done
        whole = [json.dumps(head), *(json.dumps(vars(done)) for done in self.done.values())]
        self.path.write_text("".join(line + "\n" for line in whole), encoding="utf-8")  # without half a line

    def add(self, written: Written) -> None:
        """A piece is done."""
        self.done[written.number] = written
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(written)) + "\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line)) if line.endswith(b"\n") else None
    except ValueError:
        return None


@dataclass(frozen=True)
class HowRows:
    """What decides rows beside the model."""

    top: int
    unsure_below: float | None
    batch_size: int
    photos: int  # of the whole prediction, by which `auto` chooses


class ShardWriter:
    """Predicts pieces and writes each as a Parquet file; one is made for each process."""

    def __init__(self, predictor: Answering, folder: Path, how: HowRows, engines: Sequence[str]) -> None:
        """`engines` computed the first piece; empty: this is it."""
        self._predictor, self._folder, self._how = predictor, folder, how
        if engines:
            predictor.settle(engines)

    def __call__(self, piece: Piece) -> Written:
        """Writes a piece.

        Raises:
            MachineError: its process ended several times, or the storage does not answer.
            UsageError: the folder is not there, or cannot be written.
        """
        stamp, lethal = piece.stamp, self._lethal(piece)
        photos = [b"\0" if place in lethal else photo for place, photo in enumerate(piece.photos)]
        how = self._how
        found = self._predictor.stream(
            _Part(photos, how.photos), top=how.top, unsure_below=how.unsure_below, batch_size=how.batch_size
        )
        predictions = [_named(prediction, place in lethal) for place, prediction in enumerate(found)]
        rows = zip(piece.names, predictions, strict=True)
        lines = [row_of(name, prediction, "csv", how.top, str).line for name, prediction in rows]
        write_rows(self._folder / part_name(piece.number), [heading("csv", how.top), *lines])
        self._tries(piece).unlink(missing_ok=True)
        failed = [
            (name, prediction.reason)
            for name, prediction in zip(piece.names, predictions, strict=True)
            if prediction.status == Status.FAILED
        ]
        unsure = sum(prediction.status == Status.UNSURE for prediction in predictions)
        told = (*self._predictor.remarks, *sentences_on_values(self._predictor))
        return Written(piece.number, len(lines), failed, unsure, stamp, self._predictor.engines, told)

    def _tries(self, piece: Piece) -> Path:
        return self._folder / TRIES / str(piece.number)

    def _lethal(self, piece: Piece) -> set[int]:
        """Places of photos that end the process that reads them, if this piece's process has ended before."""
        tries = self._tries(piece)
        try:
            tries.parent.mkdir(exist_ok=True)
            with tries.open("ab") as file:
                file.write(b".")
            lost = tries.stat().st_size - 1
        except FileNotFoundError:
            raise UsageError(f"-o {self._folder}: is not on this machine; choose a folder that all share") from None
        except OSError as error:
            raise UsageError(f"-o {self._folder}: cannot be written ({error.strerror})") from None
        if lost >= MOST_LOST:
            tries.unlink()
            raise MachineError(
                f"{part_name(piece.number)}: its process ended {lost} times, though each photo can be read; the "
                "machine may have too little memory. Go on with the same command and --resume"
            )
        return set() if lost < LOST_BEFORE_A_LOOK else lethal_photos(piece.photos)


@dataclass(frozen=True)
class _Part:
    """Photos that count as all of the prediction, since the number decides the engine."""

    photos: Sequence[Any]
    whole: int

    def __len__(self) -> int:
        return self.whole

    def __iter__(self) -> Iterator[Any]:
        return iter(self.photos)


def _named(prediction: Prediction, is_lethal: bool) -> Prediction:
    return replace(prediction, reason=LETHAL) if is_lethal else prediction


def lethal_photos(photos: Sequence[Path | Stored], command: Iterable[str] | None = None) -> set[int]:
    """Places of the photos that end a process that reads them: each is read by a child, which says where it is."""
    found, begin = set[int](), 0
    ask = list(command or (sys.executable, "-c", "from fieldguide.deploy.shards import read_all; read_all()"))
    while begin < len(photos):
        jobs = [
            [photo.url, photo.offset, photo.size] if isinstance(photo, Stored) else [os.fspath(photo)]
            for photo in photos[begin:]
        ]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
        child = subprocess.run(
            ask, input=json.dumps(jobs).encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        done = len(child.stdout)  # a byte before each photo
        if child.returncode == 0:
            return found
        if not done:
            raise MachineError("a process that reads photos ends before the first one; see whether memory is free")
        found.add(begin + done - 1)
        begin += done
    return found


def read_all() -> None:
    """In the child: decodes each photo of a list on standard input, after a byte on standard output."""
    from fieldguide.data.read.decode import UnreadableError
    from fieldguide.data.read.reading import Reading
    from fieldguide.deploy.photos import as_image

    for job in json.loads(sys.stdin.buffer.read()):
        os.write(1, b".")
        photo = Path(os.fsdecode(job[0])) if len(job) == 1 else Stored(job[0], "", job[1], job[2])
        try:
            as_image(photo, Reading(), None)
        except (UnreadableError, MachineError, MemoryError):
            continue
