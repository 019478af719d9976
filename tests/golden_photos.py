"""The photos that tests/golden.py trains on; another pixel is another number."""

from pathlib import Path

import numpy as np
from PIL import Image


def made_up(folder: Path) -> Path:
    """Three classes in train and val, of several sizes and formats."""
    for hue, name in enumerate(("ant", "bee", "cow"), start=1):
        for part, count in (("train", 12), ("val", 5)):
            for number in range(count):
                _write_photo(folder / part / name / f"{number:02d}", hue, 100 * len(part) + number)
    _made_up_test(folder / "test")
    return folder


def made_up_flat(folder: Path) -> Path:
    """Classes of unequal size and no val, so that it is set apart; other photos than those of `made_up`."""
    for hue, (name, count) in enumerate({"ant": 18, "bee": 9, "cow": 12}.items(), start=1):
        for number in range(count):
            _write_photo(folder / "train" / name / f"{number:02d}", hue, 1000 + number)
    _made_up_test(folder / "test")
    return folder


def _made_up_test(folder: Path) -> None:
    for number in range(8):
        _write_photo(folder / f"{number:02d}", 1 + number % 3, 2000 + number)


def _write_photo(path: Path, hue: int, number: int) -> None:
    """One colour with patches of its own, weak enough that a small network is not always right."""
    draw = np.random.default_rng([hue, number])
    width, height = int(draw.integers(48, 100)), int(draw.integers(48, 100))
    pixels = np.full((height, width, 3), [110 + 20 * hue, 150 - 10 * hue, 90 + 15 * (hue % 3)], dtype=float)
    patches = draw.normal(0, 35, (5, 6, 3)).repeat(-(-height // 5), 0)[:height].repeat(-(-width // 6), 1)[:, :width]
    pixels += patches + draw.normal(0, 8, pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(path.with_suffix((".png", ".jpg", ".webp")[number % 3]))


def digits(folder: Path) -> Path:
    """As examples/write_digits.py, of fewer scans."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    for number in range(160):
        part = ("train", "train", "train", "val", "test")[number % 5]
        target = folder / part / ("" if part == "test" else f"digit {scans.target[number]}") / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        scan = Image.fromarray((255 - scans.images[number] * 255 / 16).astype(np.uint8))
        scan.resize((32, 32), Image.Resampling.BICUBIC).save(target)
    return folder
