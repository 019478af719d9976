"""Files that were read and will be decoded soon, kept in memory so that a training reads each photo once."""

import threading
from pathlib import Path

from fieldguide.data.read.decode import read_bytes

MOST_KEPT_BYTES = 1_000_000_000


class Contents:
    """Files' contents, as many as fit. The look at all photos reads them, and the caches are filled from them.

    They are bytes and not pixels, because the look decodes a JPEG smaller than the caches need it, and the caches' side
    may depend on what it finds. A copy in another process is empty.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self._kept: dict[Path, bytes] = {}
        self._room = most_bytes
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Contents"], tuple[()]]:
        return Contents, ()

    def read(self, path: Path) -> bytes:
        """As `read_bytes`, kept if there is room."""
        content = read_bytes(path)
        with self._lock:
            if len(content) <= self._room:
                self._room -= len(content)
                self._kept[path] = content
        return content

    def again(self, path: Path) -> bytes:
        """What was kept, else as `read_bytes`."""
        return self._kept.get(path) or read_bytes(path)

    def clear(self) -> None:
        """Forgets everything and keeps nothing more."""
        self._kept.clear()
        self._room = 0
