"""Photos in object storage, and in archives there: listed, then fetched one by one. The only one that knows fsspec."""

import functools
import os
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fieldguide.data.read.content import MAX_FILE_BYTES
from fieldguide.data.read.unreadable import UnreadableError
from fieldguide.errors import MachineError, UsageError

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")  # one slash: what Path makes of two
OF_ARROW = ("s3", "gs")  # that pyarrow can open where the package for fsspec is missing
TRIES, FIRST_WAIT_SECONDS = 6, 0.1
TAR_BLOCK_BYTES = 65_536
T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """A photo in storage: a whole object, or a piece of an archive; `stamp` differs after it has changed."""

    url: str
    stamp: str = ""
    offset: int = 0
    size: int | None = None  # in bytes; None: the whole object

    def __str__(self) -> str:
        return self.url if self.size is None else f"{self.url} (at byte {self.offset:,})"

    def fetch(self) -> bytes:
        """Its bytes.

        Raises:
            UnreadableError: it is not there, or nobody may read it.
            MachineError: the storage does not answer, after several tries.
        """
        system, path = _system(self.url)
        if self.size is not None and self.size > MAX_FILE_BYTES:
            raise UnreadableError(f"is a file of over {MAX_FILE_BYTES:,} bytes")
        end = None if self.size is None else self.offset + self.size
        try:
            return bytes(_tried(lambda: system.cat_file(path, start=self.offset or None, end=end), self.url))
        except FileNotFoundError:
            raise UnreadableError("does not exist") from None
        except PermissionError:
            raise UnreadableError("may not be read (no permission)") from None


def url_of(path: str | Path) -> str | None:
    """The address that a path was meant as (`s3://bucket/photos`); None if it is a path."""
    found = URL.fullmatch(str(path))
    if found is None or Path(path).exists():
        return None
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


def below(url: str, is_photo: Callable[[PurePosixPath], bool]) -> tuple[list[tuple[str, Stored]], int]:
    """Names and photos of an object, of an archive (.tar) or of all below an address, sorted; and how many others.

    A photo in one of several archives is named `ARCHIVE.tar/NAME`. What begins with a dot is left out.

    Raises:
        UsageError: nothing is there, or its package is missing.
        MachineError: the storage does not answer.
    """
    system, root = _system(url)
    root = root.rstrip("/")
    try:
        listed: dict[str, Any] = _tried(lambda: system.find(root, detail=True), url)
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(f"{url}: cannot be read ({error})") from None
    if not listed:
        raise UsageError(f"{url}: nothing is there")
    found, others = list[tuple[str, Stored]](), 0
    for path, about in listed.items():
        name = str(path)[len(root) :].lstrip("/") or PurePosixPath(path).name
        stamp = f"{about.get('size')} {about.get('ETag') or about.get('mtime') or about.get('LastModified') or ''}"
        if any(part.startswith(".") for part in PurePosixPath(name).parts):
            continue
        if name.lower().endswith(".tar"):
            before = "" if len(listed) == 1 and str(path) == root else f"{name}/"
            inside = _tried(functools.partial(_members, system, str(path)), url)
            good = [each for each in inside if is_photo(PurePosixPath(each[0]))]
            address = str(system.unstrip_protocol(str(path)))
            found += [(before + inner, Stored(address, stamp, at, size)) for inner, at, size in good]
            others += len(inside) - len(good)
        elif is_photo(PurePosixPath(name)):
            found.append((name, Stored(str(system.unstrip_protocol(str(path))), stamp)))
        else:
            others += 1
    return sorted(found, key=lambda each: each[0]), others


def _members(system: Any, path: str) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each file in an archive, by its headers alone."""
    with system.open(path, "rb", block_size=TAR_BLOCK_BYTES) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        files = [member for member in archive if member.isfile()]
        return [(member.name.removeprefix("./"), member.offset_data, member.size) for member in files]


def _tried(call: Callable[[], T], url: str) -> T:
    """`call()`, again after a while if the storage fails."""
    for number in range(TRIES):
        try:
            return call()
        except (FileNotFoundError, PermissionError):
            raise
        except tarfile.TarError as error:
            raise UsageError(f"{url}: an archive cannot be read ({error}); compressed ones are not taken") from None
        except Exception as error:  # each storage fails in its own way
            if number + 1 == TRIES:
                raise MachineError(f"{url}: cannot be read, tried {TRIES} times ({error})") from None
            time.sleep(FIRST_WAIT_SECONDS * 2**number)
    raise AssertionError


@functools.lru_cache(maxsize=16)
def _opened(protocol: str) -> Any:
    """The file system of a protocol, made once."""
    import fsspec

    try:
        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        if protocol not in OF_ARROW:
            raise UsageError(f"{protocol}://: cannot be opened ({error})") from None
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    return ArrowFSWrapper(fs.S3FileSystem(**_endpoint()) if protocol == "s3" else fs.GcsFileSystem())


def _endpoint() -> dict[str, str]:
    """Where S3 is, if it is not Amazon's: AWS_ENDPOINT_URL, as other programs read it."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        return {}
    scheme, _, host = url.partition("://")
    return {"endpoint_override": host.rstrip("/"), "scheme": scheme}


def _system(url: str) -> tuple[Any, str]:
    system = _opened(url.partition("://")[0])
    return system, str(system._strip_protocol(url))
