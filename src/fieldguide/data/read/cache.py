"""Decoded photos, kept between trainings: a folder of packs, bounded in size, shared by processes.

A photo is decoded once, made upright RGB, and resized with antialias so that its shorter side is at most `side_px`;
validation photos keep their own size, since a second resize would change what the network sees. What is kept is that,
by the SHA-256 of the file, the side, how files are read, `DECODING` and Pillow's version. So pixels from the cache are
those that decoding gives, bit for bit, and whether a photo was cached changes no number.

Processes that fill the cache at once take turns, a pack each, and see what the others wrote. Over the bound, the packs
that were used longest ago go first, but none that a live process uses. What has no room is decoded each time.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fieldguide import locks
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.pack import DamagedError, Pack, Pixels, remove_unless_used, write_pack
from fieldguide.data.read.photo_pixels import PhotoPixels, Wanted
from fieldguide.data.read.prefetch import prefetched
from fieldguide.data.read.reading import AnyReading
from fieldguide.errors import UsageError
from fieldguide.storage import cache_folder, remove_half_written

KIND = "photos"
BOUND = "FIELDGUIDE_CACHE_GB"
SHARE_OF_DISK = 0.25
PACK_BYTES = 256_000_000
MOST_PHOTO_BYTES, MOST_WHOLE_BYTES = 64_000_000, 4_000_000
GB = 1e9


class Cache:
    """The folder of packs: `photos` below `FIELDGUIDE_CACHE` or the user's cache folder, unless one is given.

    Its bound is `FIELDGUIDE_CACHE_GB` or a quarter of what the disk has left beside it, unless one is given.
    """

    def __init__(self, folder: Path | None = None, most_bytes: int | None = None) -> None:
        self.folder = cache_folder(KIND) if folder is None else folder
        self._most_bytes = most_bytes

    @property
    def most_bytes(self) -> int:
        """The bound on its size; raises UsageError if `FIELDGUIDE_CACHE_GB` is no number."""
        if self._most_bytes is not None:
            return self._most_bytes
        text = os.environ.get(BOUND)
        if not text:
            return int(SHARE_OF_DISK * (_free_bytes(self.folder) + self.used_bytes()))
        try:
            wanted = float(text)
        except ValueError:
            wanted = -1
        if not 0 <= wanted < 1e9:
            raise UsageError(f"{BOUND}={text}: must be a number of gigabytes, 0 or more")
        return int(wanted * GB)

    def packs(self) -> list[Path]:
        """The packs' files, the one used longest ago first."""
        found = []
        for path in self.folder.glob("*.pack"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def used_bytes(self) -> int:
        """What the packs take."""
        total = 0
        for path in self.packs():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def counts(self) -> list[int]:
        """How many photos each pack holds; 0 for a damaged one."""
        found = []
        for path in self.packs():
            try:
                found.append(len(Pack(path)))
            except (OSError, DamagedError):
                found.append(0)
        return found

    def clear(self) -> int:
        """Removes what no live process uses; how many packs stay. Raises UsageError if the folder cannot be written."""
        try:
            if not self.folder.exists():
                return 0
            with self._turn():
                return sum(not remove_unless_used(path) for path in self.packs())
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be cleared ({error.strerror or error})") from None

    def open_packs(self, kind: str, wanted: set[str], known: set[Path]) -> list[Pack]:
        """Opens the packs of that kind which hold something wanted; damaged ones are removed."""
        found = []
        for path in self.packs():
            if path in known or not path.name.startswith(kind):
                continue
            try:
                pack = Pack(path)
            except DamagedError:
                with contextlib.suppress(OSError):  # a folder that cannot be written can be read
                    path.unlink()
                continue
            except OSError:  # another process removed it
                continue
            if any(content_hash in pack for content_hash in wanted):
                with contextlib.suppress(OSError):
                    os.utime(path)
                found.append(pack)
        return found

    def make_room(self, needed: int) -> bool:
        """Whether so many bytes fit; packs that no live process uses go for it, the one used longest ago first."""
        most = self.most_bytes
        if needed > most:
            return False
        for path in [None, *self.packs()]:
            if path is not None:
                remove_unless_used(path)
            if self.used_bytes() + needed <= most and needed < _free_bytes(self.folder):
                return True
        return False

    def pixels_of(
        self,
        photos: Sequence[Wanted],
        side_px: int,
        reading: AnyReading,
        advance: Callable[[int], None] = lambda _: None,
        contents: Contents | None = None,
        least_px: int | None = None,
    ) -> PhotoPixels:
        """Opens the pixels of photos, and decodes and keeps those that are missing, on all cores.

        `side_px` bounds the shorter side; 0: the photos' own size, and nothing is cached. `advance` gets how many more
        are there, `contents` may have what was read before, `least_px` is as in `PhotoPixels`. Raises PhotosError if a
        photo cannot be read, or is another one by now.
        """
        made = PhotoPixels(side_px, reading, contents, most_bytes=MOST_PHOTO_BYTES, least_px=least_px)
        return self._filled(made, photos, advance) if side_px else made

    def whole_pixels_of(
        self,
        photos: Sequence[Wanted],
        reading: AnyReading,
        advance: Callable[[int], None] = lambda _: None,
        contents: Contents | None = None,
    ) -> PhotoPixels:
        """As `pixels_of`, in the photos' own size, so that any preprocessing gives what it gives from the file.

        A photo of over `MOST_WHOLE_BYTES` is not kept: its pixels take ten times the room of its file, so a disk needs
        as long to read them as a core to decode the file.
        """
        return self._filled(PhotoPixels(0, reading, contents, most_bytes=MOST_WHOLE_BYTES), photos, advance)

    def _filled(self, made: PhotoPixels, photos: Sequence[Wanted], advance: Callable[[int], None]) -> PhotoPixels:
        try:
            self._fill(made, {photo.content_hash: photo for photo in photos if photo.content_hash}, advance)
        except OSError as error:
            made.problem = f"{self.folder} cannot be written ({error.strerror or error})"
        return made

    def _fill(self, made: PhotoPixels, photos: dict[str, Wanted], advance: Callable[[int], None]) -> None:
        self._open(made, photos, advance)  # without a turn: a folder that cannot be written can be read
        missing = made.missing(photos)
        tasks = (photo for photo in missing if photo.content_hash not in made)  # asked anew before each
        with contextlib.closing(prefetched(tasks, lambda photo: (photo, made.to_cache(photo)))) as decoded:
            while not made.problem and made.missing(photos):
                with self._turn():
                    self._open(made, photos, advance)  # what others wrote before it was our turn
                    path = self.folder / f"{made.kind}{uuid.uuid4().hex[:16]}.pack"
                    write_pack(path, self._as_they_fit(decoded, made, advance))
                    pack = Pack(path)
                    made.add([pack])
                    if not len(pack):
                        path.unlink(missing_ok=True)
                        return

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time; what a dead one left half-written is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.turn(self.folder / "turn.lock"):
            remove_half_written(self.folder)
            yield

    def _open(self, made: PhotoPixels, photos: dict[str, Wanted], advance: Callable[[int], None]) -> None:
        before = len(made.missing(photos))
        made.add(self.open_packs(made.kind, set(photos), made.paths))
        advance(before - len(made.missing(photos)))

    def _as_they_fit(
        self, decoded: Iterator[tuple[Wanted, Pixels | None]], made: PhotoPixels, advance: Callable[[int], None]
    ) -> Iterator[tuple[str, Pixels]]:
        """The photos of one pack; it ends when it is full, or when the cache is."""
        written, room = 0, 0
        for photo, pixels in decoded:
            if photo.content_hash in made:
                continue
            if pixels is None:
                made.too_large.add(photo.content_hash)
                continue
            if written + pixels.nbytes > room:
                steps = (max(pixels.nbytes, PACK_BYTES // 8), pixels.nbytes)  # asking for each photo would take time
                step = next((step for step in steps if self.make_room(written + step)), 0)
                if not step:
                    made.problem = f"{self.folder} may take {self.most_bytes / GB:.1f} GB; {BOUND} changes that"
                    return
                room = written + step
            written += pixels.nbytes
            yield photo.content_hash, pixels
            advance(1)
            if written >= PACK_BYTES:
                return


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
