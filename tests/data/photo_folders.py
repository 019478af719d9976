"""Photo folders for these tests: small coloured patterns, a colour a class, no two photos the same."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def make_photo(class_name: str, number: int, size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    """A pattern in the class's own colour and stripes; the noise on it is the photo's own."""
    width, height = size
    colour = np.random.default_rng(zlib.crc32(class_name.encode("utf-8", "surrogateescape"))).integers(60, 196, 3)
    stripes = (np.arange(width) // (2 + int(colour[0]) % 5) % 2 * 40)[None, :, None]
    noise = np.random.default_rng([seed, number, int(colour.sum())]).integers(0, 20, (height, width, 3))
    return Image.fromarray((colour + stripes + noise).astype(np.uint8))


def make_photos(
    root: Path, counts: Mapping[str, int], size: tuple[int, int] = (40, 30), seed: int = 0, ending: str = ".png"
) -> Path:
    """Writes photos: `{"train/cat": 3, "val/cat": 1, "test": 5}`; the folder's last name decides the colour."""
    for place, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            photo = make_photo(folder.rpartition("/")[2], 1_000 * place + number, size, seed)
            photo.save(root / folder / f"{number:03}{ending}")
    return root
