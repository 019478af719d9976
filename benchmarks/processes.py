"""Images per second of one training by several processes, beside the same training by fewer, in turn in one run.

Usage: python benchmarks/processes.py [--processes 1 2] [--device cpu] [--network resnet18.tv_in1k] [--photos 32] ...
On a CPU every contestant has all cores: one process with all threads, two with half of them each. Each trains some
epochs on made-up photos, by the same recipe; the first epoch, which warms up, is left out. In every second round the
order is turned around. The ratio is that of the medians over all epochs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import photos

from fieldguide.world import cores

EPOCHS = 4


def main() -> None:
    """Prints one line per number of processes, and the ratios."""
    options = _options()
    found: dict[int, list[float]] = {count: [] for count in options.processes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos.stage(None, folder / "photos", options.photos * max(options.processes) * options.steps, 8)
        for number in range(options.rounds):
            for count in options.processes[:: -1 if number % 2 else 1]:
                speeds = _train(count, options, folder, folder / f"run-{number}-{count}")
                print(
                    f"round {number + 1}, {count} processes: {', '.join(f'{each:.1f}' for each in speeds)}", flush=True
                )
                found[count] += speeds
    first = statistics.median(found[options.processes[0]])
    for count, speeds in found.items():
        speed = statistics.median(speeds)
        print(f"{count} processes: {speed:.1f} images/s, {speed / first:.2f} of {options.processes[0]}")


def _train(count: int, options: argparse.Namespace, folder: Path, run: Path) -> list[float]:
    """Images per second of each epoch but the first."""
    settings = {
        "model.backbone": options.network,
        "model.weights": "none",
        "data.image_size_px": options.size,
        "training.batch_size": options.photos * (max(options.processes) if options.device != "cpu" else 2),
        "training.plan": "null",
        "training.phases": f"[{{augmentation: mild, max_epochs: {EPOCHS}, patience_epochs: {EPOCHS}}}]",
        "training.phases.0.batch_norm": options.batch_norm,
        "training.rounds": 0,
        "rules.backbones": "null",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "fieldguide", "train", str(folder / "photos"), "-o", str(run)]
    command += ["--device", options.device, "--processes", str(count), *words]
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores() // count))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    epochs = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [float(epoch["images_per_second"]) for epoch in epochs[1:]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers to compare; default: 1 2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="resnet18.tv_in1k")
    parser.add_argument("--size", type=int, default=128, help="side of the images in px")
    parser.add_argument("--batch-norm", choices=("train", "frozen", "folded"), default="train")
    parser.add_argument("--photos", type=int, default=32, help="photos of a process in a step; a CPU's step has 2 x")
    parser.add_argument("--steps", type=int, default=4, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
