"""Files that appear whole or not at all, their checksums, and names that any reader can print. Knows no run."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fieldguide.errors import UsageError

WRITING = ".writing-"  # the beginning of a temporary file's name
LOCK = ".lock"
DEVICES = (Path("/dev"), Path("/proc"))
SHARED_MEMORY = Path("/dev/shm")  # holds files as any other folder
CACHE_PLACE = "FIELDGUIDE_CACHE"
MOST_TEXT_BYTES = 2**29
SURROGATE = re.compile("[\ud800-\udfff]")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula when it opens a CSV


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only after all was written, flushed and synced.

    A link stays, and the file that it leads to is replaced. Devices, pipes and what else lies below `/dev` are written
    to at the end and never replaced.

    Raises:
        OSError: nothing stands at `path` that did not stand there before.
    """
    if is_written_through(path):
        with tempfile.TemporaryFile() as kept:
            yield kept
            kept.seek(0)
            with path.open("wb") as device:
                shutil.copyfileobj(kept, device)
        return
    path = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=WRITING)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private; a result is not
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def is_written_through(path: Path) -> bool:
    """Whether a path leads to something that is no file of its own: a device, a pipe, an open file of a process."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            return True
    except OSError:
        pass  # nothing there yet
    return _is_below_dev(path)


def _is_below_dev(path: Path) -> bool:
    places = (path.absolute(), Path(os.path.realpath(path)))
    return any(
        place.is_relative_to(root) and not place.is_relative_to(SHARED_MEMORY) for place in places for root in DEVICES
    )


def remove_half_written(folder: Path) -> None:
    """Removes what a process that was killed in `replacing` left in `folder` and below."""
    for left in folder.rglob(WRITING + "*"):
        with contextlib.suppress(OSError):
            left.unlink()


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` whole or not at all."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text whole or not at all; `\\n` stays `\\n`, and a name's bytes that are no UTF-8 become `\\xNN`."""
    write_bytes(path, printable(content).encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON that any reader takes (no NaN, no Infinity, no half of a surrogate pair)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, SURROGATE.sub(lambda found: printable(found[0]).replace("\\", "\\\\"), text))


def read_json(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> Any:
    """Reads a JSON file of at most `most_bytes`.

    Raises:
        UsageError: the file is missing, larger, or no JSON; the message names it.
    """
    try:
        return json.loads(read_text(path, most_bytes))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UsageError(f"{path}: cannot be read as JSON ({error})") from None


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Reads UTF-8 text of at most `most_bytes`, newlines as they are.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no UTF-8.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"it has {size:,} bytes; at most {most_bytes:,} are read")
        return file.read(size + 1).decode("utf-8")


def csv_line(fields: Sequence[str]) -> str:
    """One line of a CSV, ended by `\\n`; a field with a carriage return is quoted too, so that it reads back."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)  # what ends a line is what it quotes
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def no_formula(name: str) -> str:
    """A name for a spreadsheet: one that it would take for a formula gets a `'` before it."""
    return f"'{name}" if name.startswith(FORMULA_STARTS) else name


def digest(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(name: str) -> str:
    """A file name as valid UTF-8: bytes that are none are written as `\\xNN`."""
    try:
        content = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file name holds but any JSON may
        content = name.encode("utf-8", "surrogatepass")
    return content.decode("utf-8", "backslashreplace")


def cache_folder(kind: str) -> Path:
    """Where things of one kind are kept between commands: below `FIELDGUIDE_CACHE`, or the user's cache folder."""
    if place := os.environ.get(CACHE_PLACE):
        return Path(place) / kind
    try:
        import platformdirs
    except ImportError:
        return Path.home() / ".cache" / "fieldguide" / kind
    return platformdirs.user_cache_path("fieldguide", appauthor=False) / kind


def is_there(path: Path) -> bool:
    """Whether something lies at `path`.

    Raises:
        UsageError: nobody can look there: a name that is too long, a folder that cannot be entered.
    """
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder but what a process leaves that was killed before it wrote its first file."""
    return all(entry.name == LOCK or entry.name.startswith(WRITING) for entry in folder.iterdir())


def problem_with_output_file(file: Path) -> str | None:
    """Why `file` cannot be written, as a sentence without its name; None if it can.

    Leaves nothing behind.
    """
    try:
        if file.is_dir():
            return "is a folder; give the name of a file"
        if file.is_fifo() and not _is_below_dev(file):  # writing would wait for a reader
            return "is a named pipe, which may have no reader; give the name of a file"
        if is_written_through(file):
            return None if os.access(file, os.W_OK) else "cannot be written"
        folder = Path(os.path.realpath(file)).parent
        if not folder.is_dir():
            return f"there is no folder {folder if file.is_symlink() else file.parent}"
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"


def problem_with_output_folder(folder: Path) -> str | None:
    """Why `folder` cannot be made anew and written, as a sentence; None if it can.

    Leaves nothing behind.
    """
    missing: list[Path] = []
    try:
        if folder.exists() or folder.is_symlink():
            if not folder.is_dir() or not is_empty(folder):
                return f"{folder}: exists already"
        else:
            missing.append(folder)
            while not missing[-1].parent.exists():
                missing.append(missing[-1].parent)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror or error})"
    finally:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()
    return None
