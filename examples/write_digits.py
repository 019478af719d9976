"""Writes scikit-learn's handwritten digits (real scans, 8 x 8 pixels) as a folder of photos.

The layout is that of a course competition: `train/<class>/`, `val/<class>/`, and a flat `test/` whose labels
stand in a file of their own, beside the folder. Usage: python examples/write_digits.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE_PX = 32


def main(folder: Path) -> None:
    """Writes 60 % of the scans for training, 20 % for validation, 20 % for test."""
    if folder.exists():
        sys.exit(f"{folder}: exists already; remove it or choose another")
    digits = load_digits()
    labels = ["image,label"]
    for place, number in enumerate(np.random.default_rng(0).permutation(len(digits.images))):
        part = "train" if place % 5 < 3 else "val" if place % 5 == 3 else "test"
        name, file = NAMES[digits.target[number]], f"{number:04d}.png"
        target = folder / part / ("" if part == "test" else name) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        scan = Image.fromarray((255 - digits.images[number] * 255 / 16).astype(np.uint8))
        scan.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(target)
        if part == "test":
            labels.append(f"{file},{name}")
    (folder.parent / f"{folder.name}-test-labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
