"""`fieldguide cache`: where decoded photos are kept, how much they take, and away with them."""

import os
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.cache import BOUND, GB, PLACE, Cache
from fieldguide.errors import counted


@dataclass(frozen=True)
class CacheFacts:
    """The cache as it is.

    Attributes:
        folder: where.
        packs, photos: how many files, and how many photos in them.
        used_bytes: what they take.
        most_bytes: the bound.
        in_use: files that a live process uses and that were therefore not cleared; None: nobody tried.
    """

    folder: Path
    packs: int
    photos: int
    used_bytes: int
    most_bytes: int
    in_use: int | None = None

    def sentences(self) -> list[str]:
        """For people."""
        bound = BOUND if os.environ.get(BOUND) else f"a quarter of the disk's room; {BOUND} changes it"
        lines = []
        if self.in_use is not None:
            kept = f"; {counted(self.in_use, 'file')} kept, in use by a training" if self.in_use else ""
            lines.append(f"cleared{kept}")
        return [
            *lines,
            f"{self.folder} ({PLACE} changes the place)",
            f"{counted(self.photos, 'decoded photo')} in {counted(self.packs, 'file')}, {self.used_bytes / GB:.2f} GB "
            f"of at most {self.most_bytes / GB:.1f} GB ({bound})",
        ]


def cache(*, clear: bool = False) -> CacheFacts:
    """Looks at the cache of decoded photos, after clearing it if asked.

    Args:
        clear: remove all but what a live process uses.

    Raises:
        UsageError: the bound in the environment is no number, or the folder cannot be written.
    """
    kept = Cache()
    in_use = kept.clear() if clear else None
    counts = kept.counts()
    return CacheFacts(kept.folder, len(counts), sum(counts), kept.used_bytes(), kept.most_bytes, in_use)
