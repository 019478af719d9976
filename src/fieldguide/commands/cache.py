"""`fieldguide cache`: shows or clears what is cached between commands."""

import os
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.read.archive_cache import forget_archives, known_archives
from fieldguide.data.read.cache import BOUND, GB, Cache
from fieldguide.deploy.choice import Kept
from fieldguide.deploy.kept_networks import KeptNetworks
from fieldguide.errors import counted
from fieldguide.storage import CACHE_PLACE, is_there


@dataclass(frozen=True)
class CacheFacts:
    """The state of the cache: `packs` are files with photos in them, `most_bytes` is the limit.

    `in_use` counts files kept because a process uses them (None: nothing was cleared); `engines` counts networks and
    sizes with known speeds, and `forgotten` says whether the speeds were deleted. `archives` counts those whose
    photos are listed or unpacked, `archives_in_use` those of them that were kept because a process uses them.
    `networks` counts those that OpenVINO compiled.
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
    archives: int = 0
    archives_deleted: int = 0
    archives_bytes: int = 0
    archives_in_use: int = 0
    networks: int = 0

    def sentences(self) -> list[str]:
        """As text."""
        bound = BOUND if os.environ.get(BOUND) else f"a quarter of the free disk space; set {BOUND} to change it"
        lines = []
        if self.in_use is not None:
            kept = f"; kept {counted(self.in_use, 'file')} that a training is using" if self.in_use else ""
            lines.append(f"deleted the decoded photos{kept}")
            lines += ["deleted the lists of archives, and what was unpacked of them"] if self.archives_deleted else []
            if self.archives_in_use:
                archives = counted(self.archives_in_use, "archive")
                lines.append(f"kept the list of {archives} that a process is using; clear again after it has ended")
        if self.forgotten:
            lines.append("deleted the measured engine speeds, and what OpenVINO compiled")
        return [
            *lines,
            f"{self.folder} (set {CACHE_PLACE} to change it)",
            f"{counted(self.photos, 'decoded photo')} in {counted(self.packs, 'file')}, {self.used_bytes / GB:.2f} GB "
            f"of at most {self.most_bytes / GB:.1f} GB ({bound})",
            str(self.engines_folder),
            f"engine speeds of {counted(self.engines, 'network')}; {self.networks:,} compiled by OpenVINO",
            *(
                [f"{counted(self.archives, 'archive')} listed or unpacked, {self.archives_bytes / GB:.2f} GB"]
                if self.archives
                else []
            ),
        ]


def cache(*, clear: bool = False, forget_engines: bool = False) -> CacheFacts:
    """Shows the cache, after deleting decoded photos that no process uses, or what is known of engines, if asked."""
    photos, engines, networks = Cache(), Kept.of_user(), KeptNetworks.of_user()
    is_there(photos.folder)  # raises if it cannot be looked at
    in_use = photos.clear() if clear else None
    if forget_engines:
        engines.clear()
        networks.clear()
    counts, used, most = photos.counts(), photos.used_bytes(), photos.most_bytes
    place, known = engines.folder, len(engines.files())
    deleted, kept = forget_archives() if clear else (0, 0)
    archives, size = known_archives()
    rest = (archives, deleted, size, kept, len(networks.files()))
    return CacheFacts(photos.folder, len(counts), sum(counts), used, most, in_use, place, known, forget_engines, *rest)
