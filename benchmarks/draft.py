"""What decoding large JPEGs at reduced size saves, and how much it changes the input and a model's answers.

Usage: python benchmarks/draft.py --photos PHOTOS [--run RUN] [--size 1600x1200] [--count 24] [--factors 1 2 4]
It makes two kinds of large photos: mosaics of small photos, with single-pixel detail and hard edges (the worst case),
and enlarged small photos with noise, like a camera's. A factor is how many times `resize_px` both sides keep.
Differences are against decoding at full size, after resize and centre crop: in pixel levels of 256, and with RUN also
in the largest probability and the first label, by the plain engine.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from photos import enlarged
from PIL import Image

from fieldguide.data.read.decode import read_photo
from fieldguide.data.read.formats import has_image_ending
from fieldguide.data.read.preprocess import Preprocessing, center
from fieldguide.deploy.predictor import Predictor, load_predictor

KINDS = ("mosaic", "enlarged")


def make_up(small: list[Path], folder: Path, size: tuple[int, int], count: int) -> Iterator[tuple[str, Path]]:
    """(kind, file) of `count` large photos of each kind."""
    chance = random.Random(0)
    for kind in KINDS:
        for number in range(count):
            if kind == "mosaic":
                photo = _mosaic(small, size, chance)
            else:
                photo = enlarged(read_photo(chance.choice(small)), size, chance.randrange(2**32))
            path = folder / f"{kind}-{number:03}.jpg"
            photo.save(path, quality=90)
            yield kind, path


def _mosaic(small: list[Path], size: tuple[int, int], chance: random.Random) -> Image.Image:
    made = Image.new("RGB", size)
    for left in range(0, size[0], 200):
        for top in range(0, size[1], 150):
            made.paste(read_photo(chance.choice(small)).resize((200, 150)), (left, top))
    return made


def inputs(paths: list[Path], preprocessing: Preprocessing, least_px: int | None) -> tuple[np.ndarray, float]:
    """What the network sees, (photos, side, side, 3), and seconds a photo on one core."""
    began = time.perf_counter()
    made = [np.asarray(center(read_photo(path, least_px=least_px), preprocessing)) for path in paths]
    return np.stack(made).astype(float), (time.perf_counter() - began) / len(paths)


def measure(kind: str, paths: list[Path], factors: list[int], run: Path | None) -> None:
    """Prints a row a factor."""
    predictor = load_predictor(run) if run else None
    preprocessing = (
        predictor.preprocessing if predictor else Preprocessing(224, 256, "bilinear", (0.5,) * 3, (0.5,) * 3)
    )
    whole, seconds = inputs(paths, preprocessing, None)
    answers = answers_of(predictor, paths, None)
    print(f"| {kind} | whole | {1 / seconds:.0f} | | | | |")
    for factor in factors:
        least_px = factor * preprocessing.resize_px
        small, seconds = inputs(paths, preprocessing, least_px)
        off = np.abs(small - whole)
        change = "|"
        if answers is not None:
            other = answers_of(predictor, paths, least_px)
            changed = int((other.argmax(axis=1) != answers.argmax(axis=1)).sum())
            change = f"{np.abs(other - answers).max():.3f} | {changed} of {len(paths)}"
        print(f"| {kind} | {factor} | {1 / seconds:.0f} | {off.mean():.2f} | {np.percentile(off, 99):.1f} | {change} |")


def answers_of(predictor: Predictor | None, paths: list[Path], least_px: int | None) -> np.ndarray | None:
    """(photos, classes) probabilities; None without a predictor."""
    if predictor is None:
        return None
    photos = (read_photo(path, least_px=least_px) for path in paths)
    return predictor.predict_proba(photos)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of small photos")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--size", default="1600x1200")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    small = sorted(path for path in arguments.photos.rglob("*") if has_image_ending(path))
    width, _, height = arguments.size.partition("x")
    print("| photos | times resize_px | images/s | mean difference | 99th percentile | probability | labels changed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        made = list(make_up(small, Path(folder), (int(width), int(height)), arguments.count))
        for kind in KINDS:
            measure(kind, [path for of, path in made if of == kind], arguments.factors, arguments.run)


if __name__ == "__main__":
    main()
