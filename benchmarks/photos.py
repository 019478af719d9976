"""The same photos for every contestant: a number of a folder's photos, or made-up ones of 500x375."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

MADE_UP_CLASSES = 8
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
LARGE_ONES = 20  # that are made; others are copies


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


def stage_flat(source: Path | None, target: Path, count: int, side_px: int | None = None) -> str:
    """Fills target with photos, without folders, enlarged if a longer side is given; what they are, in words."""
    what = stage(source, target / "staged", min(count, LARGE_ONES) if side_px else count, 0)
    for photo in sorted((target / "staged").rglob("*.*")):
        photo.rename(target / photo.name)
    shutil.rmtree(target / "staged")
    if side_px is None:
        return what.replace("training photos", "photos")
    size, small = (side_px, side_px * 3 // 4), sorted(target.iterdir())
    for place, photo in enumerate(small):
        with Image.open(photo) as image:
            large = enlarged(image.convert("RGB"), size, place)
        photo.unlink()
        large.save(first := target / f"{place:05}.jpg", quality=90)
        for copy in range(place + len(small), count, len(small)):
            shutil.copyfile(first, target / f"{copy:05}.jpg")
    return f"{count} photos of {size[0]}x{size[1]}: {len(small)}, enlarged, with noise, and copies of them"


def stage_judged(source: Path, target: Path, multiple: int) -> dict[str, str]:
    """Fills target with the labelled photos of source/val, and some again, for batches that are all full.

    Returns:
        The name of each photo, without its ending, to its class; copies are left out.
    """
    files = [file for file in sorted(source.glob("val/*/*")) if file.suffix.lower() in ENDINGS]
    for place in range(-(-len(files) // multiple) * multiple):
        file = files[place % len(files)]
        shutil.copyfile(file, target / f"{place:05}{file.suffix.lower()}")
    return {f"{place:05}": file.parent.name for place, file in enumerate(files)}


def enlarged(photo: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    """A photo of another size, with noise as from a camera."""
    large = photo.resize(size, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8))


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
