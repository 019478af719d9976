"""`fieldguide cache`: what is kept between commands, where, how much it takes, and away with it."""

import os
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.read.cache import BOUND, GB, Cache
from fieldguide.deploy.choice import Kept
from fieldguide.errors import counted
from fieldguide.storage import CACHE_PLACE, is_there


@dataclass(frozen=True)
class CacheFacts:
    """The cache as it is.

    Attributes:
        folder: where the decoded photos are.
        packs, photos: how many files, and how many photos in them.
        used_bytes: what they take.
        most_bytes: the bound.
        in_use: files that a live process uses and that were therefore not cleared; None: nobody tried.
        engines_folder: where `predict` keeps how fast its engines were.
        engines: of how many networks and sizes it knows that.
        forgotten: whether it was made to forget.
    """

    folder: Path
    packs: int
    photos: int
    used_bytes: int
    most_bytes: int
    in_use: int | None
    engines_folder: Path
    engines: int
    forgotten: bool

    def sentences(self) -> list[str]:
        """For people."""
        bound = BOUND if os.environ.get(BOUND) else f"a quarter of the disk's room; {BOUND} changes it"
        lines = []
        if self.in_use is not None:
            kept = f"; {counted(self.in_use, 'file')} kept, in use by a training" if self.in_use else ""
            lines.append(f"decoded photos cleared{kept}")
        if self.forgotten:
            lines.append("measured speeds of engines forgotten")
        return [
            *lines,
            f"{self.folder} ({CACHE_PLACE} changes the place)",
            f"{counted(self.photos, 'decoded photo')} in {counted(self.packs, 'file')}, {self.used_bytes / GB:.2f} GB "
            f"of at most {self.most_bytes / GB:.1f} GB ({bound})",
            str(self.engines_folder),
            f"measured speeds of predict's engines for {counted(self.engines, 'network')}",
        ]


def cache(*, clear: bool = False, forget_engines: bool = False) -> CacheFacts:
    """Looks at what is kept between commands, after clearing it if asked.

    Args:
        clear: remove all decoded photos but those that a live process uses.
        forget_engines: remove the measured speeds of engines, so that `predict` measures them anew.

    Raises:
        UsageError: the bound in the environment is no number, or a folder cannot be read or written.
    """
    photos, engines = Cache(), Kept.of_user()
    is_there(photos.folder)  # or nobody can look, which it says
    in_use = photos.clear() if clear else None
    if forget_engines:
        engines.clear()
    counts = photos.counts()
    return CacheFacts(
        folder=photos.folder,
        packs=len(counts),
        photos=sum(counts),
        used_bytes=photos.used_bytes(),
        most_bytes=photos.most_bytes,
        in_use=in_use,
        engines_folder=engines.folder,
        engines=len(engines.files()),
        forgotten=forget_engines,
    )
