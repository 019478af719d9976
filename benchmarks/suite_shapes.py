"""Shapes of data that people have, made from a folder of photos and from what the packages in use ship.

Usage: python benchmarks/suite_shapes.py PHOTOS TARGET [--shapes few digits] [--scale 1]
Each becomes TARGET/NAME/train/CLASS and TARGET/NAME/val/CLASS. A training photo never comes from a validation photo of
PHOTOS, nor the other way round. `accuracy.py --suite` makes what is missing by itself.
"""

import argparse
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
PARTS = ("train", "val")
Photos = dict[str, dict[str, list[Path]]]  # part, class -> files


@dataclass(frozen=True)
class Shape:
    """A shape of data.

    Attributes:
        reason: why it is there, for the page.
        make: (photos, folder to fill, scale of the counts, random numbers).
        size: of the network's input, in pixels; None: that of the suite.
    """

    reason: str
    make: Callable[[Photos, Path, float, random.Random], None]
    size: int | None = None


def photos_of(source: Path) -> Photos:
    """The photos of train/ and val/ by part and class; classes without validation photos are left out.

    Raises:
        SystemExit: there are none.
    """
    found: Photos = {
        part: {
            folder.name: sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
            for folder in sorted((source / part).glob("*"))
            if folder.is_dir()
        }
        for part in PARTS
    }
    known = [name for name, files in found["train"].items() if files and found["val"].get(name)]
    if not known:
        raise SystemExit(f"{source}: must contain train/CLASS/ and val/CLASS/")
    return {part: {name: found[part][name] for name in known} for part in PARTS}


def make(name: str, source: Path, target: Path, scale: float = 1.0, seed: int = 0) -> Path:
    """A shape's folder, made if it is not there; a half-made one is made again."""
    folder = target / name
    if folder.is_dir():
        return folder
    half = target / f"{name}.half-made"
    shutil.rmtree(half, ignore_errors=True)
    SHAPES[name].make(photos_of(source), half, scale, random.Random(f"{name} {seed}"))
    half.rename(folder)
    return folder


def _put(file: Path, folder: Path, part: str, name: str) -> None:
    place = folder / part / name / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def _write(image: Image.Image, folder: Path, part: str, name: str, number: int, ending: str = "jpg") -> None:
    place = folder / part / name / f"{number:06}.{ending}"
    place.parent.mkdir(parents=True, exist_ok=True)
    image.save(place, quality=92)


def _times(count: int, scale: float, least: int = 1) -> int:
    return max(least, round(count * scale))


def _taken(classes: int | None, train: int | None, val: int | None):
    """So many classes, and photos of each; None: all."""

    def fill(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
        names = sorted(photos["train"])
        names = names if classes is None else sorted(draw.sample(names, min(classes, len(names))))
        for part, most in (("train", train), ("val", val)):
            for name in names:
                files = photos[part][name]
                count = len(files) if most is None else min(len(files), _times(most, scale, 2))
                for file in draw.sample(files, count):
                    _put(file, folder, part, name)

    return fill


def _mostly_validation(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
    """A quarter of each class trains; a photo near the border goes to one side as the others of its class."""
    for name in sorted(photos["train"]):
        files = [*photos["train"][name], *photos["val"][name]]
        draw.shuffle(files)
        files = files[: _times(len(files), scale, 4)]
        for number, file in enumerate(files):
            _put(file, folder, "train" if number < max(1, len(files) // 4) else "val", name)


def _crops(train: int, val: int, side_px: int | None):
    """So many crops of 60 to 100 % of the area in all, the photos in turn; resized to a side, or left."""

    def fill(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
        for part, count in (("train", train), ("val", val)):
            drawn = _in_turn(photos[part], draw)
            for number in range(_times(count, scale, 2 * len(photos[part]))):
                name, file = next(drawn)
                _write(_crop(file, draw, side_px), folder, part, name, number)

    return fill


def _in_turn(of_part: dict[str, list[Path]], draw: random.Random) -> Iterator[tuple[str, Path]]:
    """(class, photo) without end: a photo of each class, then another of each."""
    waiting: dict[str, list[Path]] = {name: [] for name in of_part}
    while True:
        for name, files in of_part.items():
            if not waiting[name]:
                waiting[name] = draw.sample(files, len(files))
            yield name, waiting[name].pop()


def _crop(file: Path, draw: random.Random, side_px: int | None) -> Image.Image:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    share = draw.uniform(0.6, 1.0) ** 0.5
    width, height = (max(1, round(length * share)) for length in image.size)
    left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
    cut = image.crop((left, top, left + width, top + height))
    return cut if side_px is None else cut.resize((side_px, side_px), Image.Resampling.BICUBIC)


def _changed(change: Callable[[Image.Image], Image.Image], classes: int | None = None, train: int | None = None):
    """Every photo changed, or so many of so many classes and half as many to validate."""

    def fill(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
        names = sorted(photos["train"])
        names = names if classes is None else sorted(draw.sample(names, min(classes, len(names))))
        for part in PARTS:
            for name in names:
                files = photos[part][name]
                if train is not None:
                    files = files[: _times(train if part == "train" else train // 2, scale, 2)]
                for number, file in enumerate(files):
                    with Image.open(file) as image:
                        _write(change(image.convert("RGB")), folder, part, name, number)

    return fill


def _huge(image: Image.Image) -> Image.Image:
    factor = 3_000 / min(image.size)
    size = tuple(round(length * factor) for length in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]


def _imbalanced(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
    """Training photos from 50 of the first class to 1 of the last, in equal ratios."""
    names = sorted(photos["train"])
    for place, name in enumerate(names):
        most = 50 ** (1 - place / max(1, len(names) - 1))
        files = photos["train"][name]
        for file in draw.sample(files, min(len(files), _times(round(most), scale))):
            _put(file, folder, "train", name)
        for file in photos["val"][name]:
            _put(file, folder, "val", name)


def _wrong_labels(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
    """A fifth of the training photos lies in another class; validation is right."""
    names = sorted(photos["train"])
    for name in names:
        files = photos["train"][name]
        wrong = set(draw.sample(files, len(files) // 5))
        for file in files:
            other = draw.choice([each for each in names if each != name]) if file in wrong and len(names) > 1 else name
            place = folder / "train" / other / f"{name}-{file.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        for file in photos["val"][name]:
            _put(file, folder, "val", name)


def _digits(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
    """scikit-learn's handwritten digits (1,797 of 8 x 8 pixels, UCI), enlarged to 32 x 32; a fifth validates."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = list(range(len(found.images)))
    draw.shuffle(order)
    for number, place in enumerate(order[: _times(len(order), scale, 100)]):
        gray = Image.fromarray((found.images[place] / 16 * 255).astype("uint8"))
        image = gray.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB")
        _write(image, folder, "val" if number % 5 == 0 else "train", str(found.target[place]), number, "png")


def _look_alikes(photos: Photos, folder: Path, scale: float, draw: random.Random) -> None:
    """Twelve frames cut out of each of five photos a class, nearly the same; validation photos are as they are."""
    for name in sorted(photos["train"]):
        files = photos["train"][name]
        number = 0
        for file in draw.sample(files, min(5, len(files))):
            with Image.open(file) as opened:
                image = opened.convert("RGB")
            for _ in range(_times(12, scale, 2)):
                width, height = (round(0.9 * length) for length in image.size)
                left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
                _write(image.crop((left, top, left + width, top + height)), folder, "train", name, number)
                number += 1
        for file in photos["val"][name]:
            _put(file, folder, "val", name)


SHAPES = {
    "few": Shape("many classes, ten photos each: a collection at its beginning", _taken(None, 10, 10)),
    "tiny": Shape("ten classes, thirty photos each: a course's first task", _taken(10, 30, 30)),
    "all": Shape("the folder as it is", _taken(None, None, None)),
    "validation": Shape("validation three times as large as training", _mostly_validation),
    "report": Shape("20,000 training and 300 validation photos, by crops: the report", _crops(20_000, 300, None)),
    "small": Shape("60,000 photos of 84 px: many photos, hardly a pixel", _crops(50_000, 10_000, 84), 84),
    "large": Shape("photos of 3,000 px: decoding takes longer than the network", _changed(_huge, 10, 30)),
    "imbalance": Shape("classes of 50 photos to 1: rare species", _imbalanced),
    "wrong-labels": Shape("a fifth of the training labels wrong", _wrong_labels),
    "gray": Shape("gray photos alone: microscopes, night", _changed(lambda image: image.convert("L").convert("RGB"))),
    "digits": Shape("handwritten digits: nothing that the first weights know", _digits, 32),
    "look-alikes": Shape("frames cut out of the same photos: bursts, videos", _look_alikes),
}  # fmt: skip


def main() -> None:
    """Makes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--scale", type=float, default=1.0, help="of the counts; under 1 to try it")
    options = parser.parse_args()
    for name in options.shapes:
        folder = make(name, options.photos, options.target, options.scale)
        counts = ", ".join(f"{sum(1 for _ in (folder / part).glob('*/*')):,} {part}" for part in PARTS)
        print(f"{folder}: {counts}")


if __name__ == "__main__":
    main()
