"""The pixels that fused augmentations start from: a photo made upright RGB and shrunk, from its file or from a pack."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from fieldguide.data.read.decode import UnreadableError, decode, read_bytes
from fieldguide.data.read.pack import DamagedError, Pack, Pixels
from fieldguide.errors import PhotosError
from fieldguide.storage import digest


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


def read_pixels(photo: Wanted, side_px: int, max_megapixels: float) -> Pixels:
    """A photo's pixels, (height, width, 3) uint8, as the cache would give them.

    Raises:
        PhotosError: it cannot be read, or is another one by now.
    """
    try:
        content = read_bytes(photo.path)
        if photo.content_hash and digest(content) != photo.content_hash:
            raise PhotosError(
                f"{photo.file} is not the photo that it was when the training began, so the training stops here"
            )
        return np.asarray(shrunk_to(decode(content, max_megapixels), side_px))
    except UnreadableError as error:
        raise PhotosError(
            f"{photo.file} {error}; it could be read when the training began, so the training stops here"
        ) from None


class PhotoPixels:
    """The pixels of a training's photos, from the cache where they are there and from the file where not."""

    def __init__(self, side_px: int, max_megapixels: float) -> None:
        self.side_px = side_px
        self.max_megapixels = max_megapixels
        self.problem = ""
        self.too_large: set[str] = set()
        self.damaged: set[str] = set()
        self._packs: dict[str, Pack] = {}

    def __len__(self) -> int:
        return len(self._packs)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._packs

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

    def decoded(self, photo: Wanted) -> Pixels:
        """From the file."""
        return read_pixels(photo, self.side_px, self.max_megapixels)

    def read(self, photo: Wanted) -> Pixels:
        """(height, width, 3) uint8, not to be written to.

        Raises:
            PhotosError: it is not cached, and cannot be read or is another one by now.
        """
        pack = self._packs.get(photo.content_hash)
        if pack is not None:
            try:
                return pack.pixels(photo.content_hash)
            except DamagedError:
                self.damaged.add(photo.content_hash)
                with contextlib.suppress(OSError):  # a folder that cannot be written can be read
                    pack.path.unlink()  # the next training writes it anew
        return self.decoded(photo)
