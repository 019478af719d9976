"""The same photos for every contestant: a number of a folder's photos, or made-up ones of 500x375."""

import itertools
import random
import shutil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

MADE_UP_CLASSES = 8
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def stage(source: Path | None, target: Path, training: int, validation: int) -> str:
    """Fills target/train/CLASS and target/val/CLASS.

    Args:
        source: holds train/CLASS; None: photos are made up.
        target: an empty folder.
        training, validation: how many photos of each; the classes take turns, so that each has as many as it can.

    Returns:
        What they are, in words.
    """
    target.mkdir(exist_ok=True)
    chosen = _made_up(target / "made", training + validation) if source is None else _taken(source)
    picked = list(itertools.islice(chosen, training))
    known = {name for name, _ in picked}  # a class of validation alone is refused by fieldguide
    picked += itertools.islice((pair for pair in chosen if pair[0] in known), validation)
    if len(picked) < training + validation:
        raise SystemExit(f"{source / 'train'}: has {len(picked)} photos, but {training + validation} are needed")
    for place, (name, photo) in enumerate(picked):
        folder = target / ("train" if place < training else "val") / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, folder / f"{place:05}{photo.suffix.lower()}")
    shutil.rmtree(target / "made", ignore_errors=True)
    classes = len({name for name, _ in picked})
    kind = "made up, 500x375" if source is None else f"of {source.name}, {_size_of(picked)} in the median"
    return f"{training} training photos in {classes} classes, {kind}"


def stage_flat(source: Path | None, target: Path, count: int) -> str:
    """Fills target with photos, without folders; what they are, in words."""
    what = stage(source, target / "staged", count, 0)
    for photo in sorted((target / "staged").rglob("*.*")):
        photo.rename(target / photo.name)
    shutil.rmtree(target / "staged")
    return what.replace("training photos", "photos")


def _taken(source: Path):
    """(class, photo), the classes in turn."""
    folders = [folder for folder in sorted((source / "train").iterdir()) if folder.is_dir()]
    each = [sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS) for folder in folders]
    for turn in itertools.zip_longest(*each):
        yield from ((folder.name, photo) for folder, photo in zip(folders, turn, strict=True) if photo)


def _made_up(folder: Path, count: int):
    """JPEGs with detail and noise, about as large on disk as photos of their size."""
    folder.mkdir(parents=True)
    for place in range(count):
        name, chance = f"class_{place % MADE_UP_CLASSES}", random.Random(place)
        rough = Image.frombytes("RGB", (25, 19), chance.randbytes(25 * 19 * 3)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        draw = ImageDraw.Draw(rough)
        for _ in range(30):
            x, y, side = chance.randrange(500), chance.randrange(375), chance.randrange(5, 90)
            draw.ellipse((x, y, x + side, y + side), fill=tuple(chance.randrange(256) for _ in range(3)))
        grain = Image.frombytes("RGB", (500, 375), chance.randbytes(500 * 375 * 3)).filter(
            ImageFilter.GaussianBlur(0.7)
        )
        photo = folder / f"{place:05}.jpg"
        Image.blend(rough, grain, 0.12).save(photo, quality=90)
        yield name, photo


def _size_of(picked: list[tuple[str, Path]]) -> str:
    sides = []
    for _, photo in picked[:: max(1, len(picked) // 50)]:
        with Image.open(photo) as image:
            sides.append(image.size)
    width, height = (sorted(side)[len(sides) // 2] for side in zip(*sides, strict=True))
    return f"{width}x{height}"
