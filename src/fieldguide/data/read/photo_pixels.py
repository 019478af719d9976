"""The pixels that fused augmentations start from: a photo made upright RGB and shrunk, from its file or from a pack."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL
from PIL import Image

from fieldguide.data.read.contents import Contents
from fieldguide.data.read.decode import UnreadableError, decode, opened
from fieldguide.data.read.pack import DamagedError, Pack, Pixels
from fieldguide.data.read.reading import AnyReading, as_reading
from fieldguide.errors import PhotosError
from fieldguide.storage import digest

DECODING = 3  # raise it when `PhotoPixels.read` gives other pixels


class Wanted(Protocol):
    """A photo whose pixels are wanted."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def file(self) -> str:
        """Its name, for messages."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of its content in hexadecimal; without one it is not cached."""


def shrunk_to(image: Image.Image, side_px: int) -> Image.Image:
    """Resizes with antialias so that the shorter side is `side_px`; a smaller photo stays, and 0 means any size."""
    short = min(image.size)
    if side_px == 0 or short <= side_px:
        return image
    width, height = (max(1, round(length * side_px / short)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


class PhotoPixels:
    """The pixels of a training's photos, from the cache where they are there and from the file where not."""

    def __init__(
        self,
        side_px: int,
        reading: AnyReading,
        contents: Contents | None = None,
        *,
        most_bytes: int = 2**63,
        least_px: int | None = None,
    ) -> None:
        """Has no pixels yet.

        Args:
            side_px: bounds the shorter side; 0: the photos' own size.
            reading: how files are read.
            contents: what was read before.
            most_bytes: pixels of more a photo are not cached.
            least_px: a large JPEG is decoded at a half, a quarter or an eighth that leaves both sides this many pixels;
                None: whole.
        """
        self.side_px = side_px
        self.reading = as_reading(reading)
        self.most_bytes = most_bytes
        self.least_px = least_px
        self._contents = contents or Contents()
        self.problem = ""
        self.too_large: set[str] = set()
        self.damaged: set[str] = set()
        self._packs: dict[str, Pack] = {}

    def __len__(self) -> int:
        return len(self._packs)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._packs

    @property
    def kind(self) -> str:
        """How the names of packs begin that hold such pixels."""
        side = f"{self.side_px}px" if self.least_px in (None, self.side_px) else f"{self.side_px}px{self.least_px}"
        return f"{DECODING}-pillow{PIL.__version__}-{side}-{self.reading.key() or 'plain'}-"

    @property
    def paths(self) -> set[Path]:
        """The packs that are open."""
        return {pack.path for pack in self._packs.values()}

    def add(self, packs: Sequence[Pack]) -> None:
        """Takes open packs in."""
        for pack in packs:
            self._packs |= dict.fromkeys(pack, pack)

    def missing(self, photos: Mapping[str, Wanted]) -> list[Wanted]:
        """Those that are not cached and could be."""
        return [photo for key, photo in photos.items() if key not in self._packs and key not in self.too_large]

    def shape(self, content_hash: str) -> tuple[int, int]:
        """Height and width of a photo that is cached, in pixels."""
        return self._packs[content_hash].shape(content_hash)

    def to_cache(self, photo: Wanted) -> Pixels | None:
        """From the file; None where it takes over `most_bytes`."""
        made = self._from_file(photo, self.most_bytes)
        return None if made is None or made.nbytes > self.most_bytes else made

    def cached(self, photo: Wanted) -> Pixels | None:
        """(height, width, 3) uint8, not to be written to; None where it is not cached."""
        pack = self._packs.get(photo.content_hash)
        if pack is not None:
            try:
                return pack.pixels(photo.content_hash)
            except DamagedError:
                self.damaged.add(photo.content_hash)
                with contextlib.suppress(OSError):  # a folder that cannot be written can be read
                    pack.path.unlink()  # the next training writes it anew
        return None

    def whole(self, photo: Wanted) -> Image.Image | None:
        """The photo as `decode` gives it, from the cache or as it was kept; None if it has to be decoded."""
        if (made := self.cached(photo)) is not None:
            return Image.fromarray(made)
        return self._contents.decoded(photo.content_hash, self.reading, None)

    def read(self, photo: Wanted) -> Pixels:
        """As `cached`, or from the file; raises PhotosError if that cannot be read, or is another one by now."""
        made = self.cached(photo)
        if made is None:
            made = self._from_file(photo)
            assert made is not None
        return made

    def _from_file(self, photo: Wanted, most_bytes: int | None = None) -> Pixels | None:
        """As the cache gives them; None, and nothing is decoded, where a photo in its own size takes over the bytes."""
        try:
            if (kept := self._contents.decoded(photo.content_hash, self.reading, self.least_px)) is not None:
                return np.asarray(shrunk_to(kept, self.side_px))
            content = self._contents.again(photo.path)
            if photo.content_hash and digest(content) != photo.content_hash:
                raise PhotosError(f"{photo.file} has changed since the training began; training stops")
            if most_bytes is not None and self.side_px == 0:
                with opened(content, self.reading) as image:
                    if 3 * image.width * image.height > most_bytes:
                        return None
            return np.asarray(shrunk_to(decode(content, self.reading, self.least_px), self.side_px))
        except UnreadableError as error:
            gone = "it was readable when the training began. Training stops"
            raise PhotosError(f"{photo.file} {error}; {gone}") from None


class ToJudge(Mapping[str, Path | Image.Image]):
    """Photos to judge a model on, by their names: an RGB image from the cache, or where the file lies.

    Both give the same input bit for bit, since only pixels in a photo's own size are cached for this.
    """

    def __init__(self, photos: Sequence[Wanted], pixels: PhotoPixels | None = None) -> None:
        self._photos = {photo.file: photo for photo in photos}
        self._pixels = pixels

    def __getitem__(self, file: str) -> Path | Image.Image:
        photo = self._photos[file]
        made = self._pixels.whole(photo) if self._pixels is not None else None
        return photo.path if made is None else made

    def __iter__(self) -> Iterator[str]:
        return iter(self._photos)

    def __len__(self) -> int:
        return len(self._photos)
