"""Images per second that one core prepares for training: fused from the cache, and the report's way.

Usage: python benchmarks/input.py [PHOTOS] [--rounds 5] [--save FOLDER] [--short]
Without PHOTOS, it makes JPEG files of 500 x 375. The ways take turns on the same photos; a figure is the median of
its rounds. The cache (in its own folder) is filled and read once before timing, so pixels come from memory. Below the
table: the error of the fused hue on these photos.
"""

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional

from fieldguide import world
from fieldguide.data.augment.draw import hue_rotation
from fieldguide.data.augment.fused import fused, one_thread_a_call
from fieldguide.data.augment.reference import photo_seed, reference
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.fused_batches import FusedBatches
from fieldguide.data.read.cache import Cache
from fieldguide.data.read.decode import read_photo
from fieldguide.data.read.formats import has_image_ending
from fieldguide.data.read.preprocess import Preprocessing, pixels
from fieldguide.settings import BUILT_IN, Policy
from fieldguide.storage import file_digest

GOAL = 2_500
Pass = Callable[[int], object]


def make_up(folder: Path, count: int) -> None:
    """Photos of 500 x 375 with soft and sharp detail, about 60 kB each."""
    draw = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((500, 375), 3)
        fine = Image.fromarray(draw.integers(0, 256, (375, 500, 3), dtype=np.uint8))
        photo = Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(1)), 0.3)
        photo.save(folder / f"{number:04d}.jpg", quality=90)


def labelled(folder: Path, count: int) -> list[LabelledPhoto]:
    """The first photos of a folder, spread over it."""
    found = sorted(path for path in folder.rglob("*") if has_image_ending(path))
    if not found:
        sys.exit(f"{folder}: no photos; give a folder that has some")
    chosen = found[:: max(1, len(found) // count)][:count]
    return [LabelledPhoto(path, path.name, 0, file_digest(path)) for path in chosen]


def ways(photos: list[LabelledPhoto], policy: Policy, size: int, sides: list[int], folder: Path) -> Iterator[tuple]:
    """(name, cores, a function that prepares all photos once for an epoch)."""
    preprocessing = Preprocessing(size, round(size / 0.875), "bilinear", (0.5,) * 3, (0.5,) * 3)
    slow = reference(policy, preprocessing)
    decoded = [read_photo(photo.path) for photo in photos]

    def seeds(epoch: int) -> Iterator[tuple[int, LabelledPhoto, int]]:
        return ((i, photo, photo_seed(0, epoch, photo.file)) for i, photo in enumerate(photos))

    def report(epoch: int) -> None:
        for _, photo, seed in seeds(epoch):
            pixels(slow(read_photo(photo.path), seed))

    def transforms(epoch: int) -> None:
        for i, _, seed in seeds(epoch):
            pixels(slow(decoded[i], seed))

    def decode(epoch: int) -> None:
        for photo in photos:
            read_photo(photo.path)

    yield "the report's way: Pillow, then torchvision's transforms", 1, report
    yield "its transforms alone", 1, transforms
    yield "its decoding alone", 1, decode
    quick = fused(policy, preprocessing)
    for side in sides:
        cached = Cache(folder, 10**11).pixels_of(photos, side, 200)
        output = np.empty((size, size, 3), np.uint8)

        def from_cache(epoch: int, cached=cached, output=output) -> None:
            with one_thread_a_call():
                for _, photo, seed in seeds(epoch):
                    quick(cached.read(photo), seed, output)

        yield f"fused from the cache, shorter side {side}", 1, from_cache
        batches = FusedBatches(photos, {"it": quick}, cached, side_px=size, seed=0, batch_size=64)
        yield (
            f"as batches by {batches.threads} threads, shorter side {side}",
            batches.threads,
            lambda epoch, batches=batches: [None for _ in batches.epoch("it", epoch)],
        )


def measure(made: list[tuple], count: int, rounds: int) -> list[dict]:
    """Images a second of each way: the median of rounds in which the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name, *_ in made}
    for *_, go in made:
        go(0)
    for turn in range(1, rounds + 1):
        for name, _, go in made:
            began = time.perf_counter()
            go(turn)
            seconds[name].append(time.perf_counter() - began)
    speeds = {name: sorted(count / second for second in times) for name, times in seconds.items()}
    report = statistics.median(speeds[made[0][0]])
    return [
        {
            "way": name,
            "cores": cores,
            "images_per_second": statistics.median(speeds[name]),
            "slowest": speeds[name][0],
            "fastest": speeds[name][-1],
            "times_the_report": statistics.median(speeds[name]) / report,
        }
        for name, cores, _ in made
    ]


def hue_sentence(photos: list[LabelledPhoto], share: float = 0.1) -> str:
    """Mean absolute differences to torchvision's hue, in levels, over a turn of `share` in both directions."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    angle, off = 2 * np.pi * share, {"moved": [], "ours": [], "yiq": []}
    for photo in photos:
        small = read_photo(photo.path).resize((64, 64))
        colours = np.asarray(small).astype(float)
        for sign in (-1, 1):
            theirs = np.asarray(functional.adjust_hue(small, sign * share)).astype(float)
            cosine, sine = np.cos(angle), sign * np.sin(angle)
            yiq = np.linalg.inv(to_yiq) @ [[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]] @ to_yiq
            off["moved"].append(np.abs(colours - theirs).mean())
            off["ours"].append(np.abs((colours @ hue_rotation(sign * share).T).clip(0, 255) - theirs).mean())
            off["yiq"].append(np.abs((colours @ yiq.T).clip(0, 255) - theirs).mean())
    moved, ours, yiq = (np.mean(off[name]) for name in ("moved", "ours", "yiq"))
    return (
        f"torchvision's hue of {share:g} moves these photos by {moved:.1f} of 256 levels in the mean; the fused one is "
        f"off from it by {ours:.1f} (a turn in YIQ: {yiq:.1f})"
    )


def as_markdown(rows: list[dict], heading: str) -> str:
    """The table."""
    lines = [heading, "", "| way | cores | images/s | slowest and fastest round | times the report's way |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        lines.append(
            f"| {row['way']} | {row['cores']} | {row['images_per_second']:,.0f} | {row['slowest']:,.0f} to "
            f"{row['fastest']:,.0f} | {row['times_the_report']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=256, help="photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policy", choices=sorted(set(BUILT_IN) - {"none"}), default="standard")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 448], help="shorter side of the cached photos")
    parser.add_argument("--save", type=Path, help="folder for input.json and input.md")
    parser.add_argument("--short", action="store_true", help="96 photos, two rounds: 15 seconds")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.count, arguments.rounds = min(arguments.count, 96), min(arguments.rounds, 2)
    torch.set_num_threads(1)
    machine = world.describe_machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.photos or Path(place) / "photos"
        if not arguments.photos:
            folder.mkdir()
            make_up(folder, arguments.count)
        photos = labelled(folder, arguments.count)
        policy = BUILT_IN[arguments.policy]
        made = list(ways(photos, policy, arguments.image_size, arguments.sides, Path(place) / "cache"))
        rows = measure(made, len(photos), arguments.rounds)
        hue = hue_sentence(photos)
    kind = "photos of a folder" if arguments.photos else "made-up photos of 500 x 375"
    heading = (
        f"{datetime.date.today()}, {machine['device_name']}, {machine['cpus']} cores, torch "
        f"{machine['libraries']['torch']}: {len(photos)} {kind}, augmentation {arguments.policy}, "
        f"{arguments.image_size} px, median of {arguments.rounds} rounds"
    )
    text = f"{as_markdown(rows, heading)}\n\n{hue}"
    print(text)
    best = rows[3]
    print(f"\n{best['way']}: {best['images_per_second']:,.0f} images/s a core; the goal is {GOAL:,} at 224 px")
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
        (arguments.save / "input.md").write_text(text + "\n", encoding="utf-8")
        content = {
            "date": str(datetime.date.today()),
            "machine": machine,
            "settings": heading,
            "rows": rows,
            "hue": hue,
        }
        (arguments.save / "input.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
