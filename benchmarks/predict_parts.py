"""Where the time of a prediction from files to rows goes, on a CPU: each part alone, then all together.

Usage: python benchmarks/predict_parts.py RUN PHOTOS [--engine int8] [--count 1024] [--rounds 3]
Each part computes the photos of PHOTOS/train in one thread, but for the network, which takes all cores. What counts is
processor time a photo, the median of the rounds; all together, decoding runs beside the network, as in `predict`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import photos
import torch

from fieldguide.commands.judging.models import load_runs
from fieldguide.data.read.preprocess import center, normalize, pixels
from fieldguide.deploy.photos import as_image
from fieldguide.deploy.rows import row_of

ALL = "all together"


def parts(predictor, files: list[Path]) -> dict[str, Callable[[], object]]:
    """What is timed, in the order of a prediction."""
    size, own = predictor.engine_batch_size, predictor.preprocessing
    whole = [as_image(file, own.reading, predictor._least_px) for file in files]
    cut = [center(image, own) for image in whole]
    batches = [torch.stack(list(map(pixels, cut[place : place + size]))) for place in range(0, len(cut), size)]
    inputs = [normalize(batch, own) for batch in batches]
    engine = predictor._computing.engine
    answers = list(predictor.logits(files, batch_size=size))
    return {
        "reading and decoding": lambda: [as_image(file, own.reading, predictor._least_px) for file in files],
        "resize and crop": lambda: [center(image, own) for image in whole],
        "pixels to a normalised batch": lambda: [
            normalize(torch.stack(list(map(pixels, cut[place : place + size]))), own)
            for place in range(0, len(cut), size)
        ],
        "network": lambda: [engine.compute(batch) for batch in inputs],
        "probabilities and rows": lambda: _rows(predictor.predictions(iter(answers), top=1, unsure_below=None)),
        ALL: lambda: _rows(predictor.stream(files, batch_size=size)),
    }


def _rows(predictions) -> list[object]:
    return [row_of(str(each.image), each, "csv", 1, str) for each in predictions]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--engine", default="int8")
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--side", type=int, metavar="PX", help="enlarge photos to this longer side")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        what = photos.stage_flat(options.photos, Path(folder), options.count, options.side)
        predictor = load_runs(options.run, "cpu", options.engine, draft=True).predictor
        timed = parts(predictor, sorted(Path(folder).iterdir()))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
        for _ in range(options.rounds):
            for name, part in timed.items():
                busy, began = time.process_time(), time.perf_counter()
                part()
                found[name].append((time.process_time() - busy, time.perf_counter() - began))
    print(f"{what}, engine {options.engine}, {options.rounds} rounds\n")
    print("| part | processor, ms a photo | share of their sum | wall, ms a photo |\n| --- | ---: | ---: | ---: |")
    medians = {
        name: [1000 * statistics.median(each) / options.count for each in zip(*values, strict=True)]
        for name, values in found.items()
    }
    total = sum(busy for name, (busy, _) in medians.items() if name != ALL)
    for name, (busy, wall) in medians.items():
        print(f"| {name} | {busy:.2f} | {'' if name == ALL else f'{busy / total:.0%}'} | {wall:.2f} |")


if __name__ == "__main__":
    main()
