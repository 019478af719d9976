"""Networks as a runtime compiled them, kept in the user's cache folder, so that the next command converts nothing."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fieldguide.errors import UsageError
from fieldguide.storage import cache_folder, write_bytes

KIND = "networks"
MOST_BYTES = 2**30  # of all; the oldest go first
DIGEST_BYTES = 32


@dataclass(frozen=True)
class KeptNetworks:
    """Compiled networks; each file may be deleted at any time.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> "KeptNetworks":
        """In the user's cache folder."""
        return cls(cache_folder(KIND))

    def files(self) -> list[Path]:
        """One file per network and batch size, the one that was used last at the end."""
        found = []
        for path in self.folder.glob("*.bin"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    def read(self, key: str) -> bytes | None:
        """What was kept for a key; None if there is nothing, or if it is damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            path.touch()
        except OSError:
            return None
        body = content[DIGEST_BYTES:]
        return body if hashlib.sha256(body).digest() == content[:DIGEST_BYTES] else None

    def keep(self, key: str, content: bytes) -> None:
        """Keeps it, and lets the oldest go; if that fails, the network is converted again next time."""
        if len(content) > MOST_BYTES // 2:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path(key), hashlib.sha256(content).digest() + content)
            self._let_go()

    def clear(self) -> None:
        """Deletes all.

        Raises:
            UsageError: the folder cannot be written.
        """
        try:
            for path in self.files():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be cleared ({error.strerror or error})") from None

    def _let_go(self) -> None:
        sizes = [(path, path.stat().st_size) for path in self.files()]
        total = sum(size for _, size in sizes)
        for path, size in sizes[:-1]:
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)
                total -= size

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.bin"


def key_of(network: nn.Module, about: Mapping[str, Any]) -> str:
    """A name for a network with its weights and whatever else its compiled form depends on (plain data)."""
    found = hashlib.sha256(json.dumps([str(network), dict(about)], sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]
