"""The engine alone: photos of a folder from memory, whole batches, no server."""

import argparse
import json
import time
from pathlib import Path

from fieldguide.commands.judging.models import load_runs
from fieldguide.commands.serve import ready

TOGETHER = 4  # times the photos of the folder in one call, so that its begin and end matter little


def main() -> None:
    """Prints JSON; `seconds` bound the timed part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", default="plain")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    predictor = load_runs(options.run, "cpu", options.engine, draft=True).predictor
    ready(predictor)
    photos = [path.read_bytes() for path in sorted(options.folder.iterdir())]
    size = predictor.engine_batch_size
    answers = [[each.label, each.confidence] for each in predictor.predict(photos, batch_size=size)]
    done, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < options.seconds:
        done += len(predictor.predict(photos * TOGETHER, top=5, batch_size=size))
    print(json.dumps({"photos_per_second": done / taken, "answers": answers}))


if __name__ == "__main__":
    main()
