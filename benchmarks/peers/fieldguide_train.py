"""fieldguide's own command: `fieldguide train` on a recipe with --epochs epochs, read from the run that it made.

Its own figures (history.jsonl: an epoch's training, from asking for its first batch to its last update) are what the
table shows. With --command-difference the command runs again with one epoch only, and the difference of the two
processes' wall times gives an independent figure, validation and the writing of bundles included. Each command has a
cache folder of its own, empty at its start, which it fills before its first epoch: in its wall time, in no epoch's.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contract
import timm
import yaml
from safetensors.torch import save_file

LIBRARIES = ("fieldguide", "timm", "torchvision", "pillow")


def weights_by_chance(options, folder: Path) -> Path:
    """A file of them, since statistics that are to be kept must come from somewhere; speed does not depend on which."""
    file = folder / "weights.safetensors"
    if not file.exists():
        network = timm.create_model(contract.NETWORKS[options.network], num_classes=0)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    return file


def recipe(options, epochs: int, weights: Path) -> dict[str, object]:
    """The report's first phase, for so many epochs, whatever becomes of the validation figures."""
    phase = {"augmentation": "standard", "max_epochs": epochs, "patience_epochs": 100_000}
    if options.batch_norm:
        phase["batch_norm"] = options.batch_norm
    if options.trainable:
        phase["trainable"] = options.trainable
    return {
        "execution": options.execution,
        "model": {"backbone": contract.NETWORKS[options.network], "weights": str(weights), "head": "linear"},
        "data": {
            "image_size_px": options.size,
            "crop_share": 0.875,
            "interpolation": "bilinear",
            "mean": list(contract.MEAN),
            "std": list(contract.STD),
        },
        "training": {
            "batch_size": options.batch,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "schedule": "constant",
            "phases": [phase],
            "rounds": 0,
        },
    }


def run(options, epochs: int, folder: Path) -> tuple[float, Path]:
    """Seconds of a whole `fieldguide train`, and the run's folder."""
    file, made = folder / f"{epochs}.yaml", folder / f"run-{epochs}"
    file.write_text(yaml.safe_dump(recipe(options, epochs, weights_by_chance(options, folder))))
    command = [sys.executable, "-m", "fieldguide", "train", options.photos, "--recipe", str(file), "-o", str(made)]
    command += [part for setting in options.set for part in ("--set", setting)]
    environment = os.environ | {"FIELDGUIDE_CACHE": str(folder / f"cache-{epochs}")}
    began = time.perf_counter()
    asked = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if asked.returncode:
        raise SystemExit(asked.stderr.strip())
    return time.perf_counter() - began, made


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--execution", choices=("fast", "exact"), default="fast")
    parser.add_argument("--batch-norm", help="train, frozen or folded; default: as in the phase")
    parser.add_argument("--trainable", help="all, last_two_stages, last_stage or head; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--command-difference", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, made = run(options, options.epochs, Path(folder))
        history = [json.loads(line) for line in (made / "history.jsonl").read_text().splitlines()]
        more: dict[str, object] = {"result_images_per_second": _result(made)}
        if options.command_difference:
            fewer, _ = run(options, 1, Path(folder))
            images = sum(epoch["training"]["images"] for epoch in history[1:])
            more["difference_images_per_second"] = images / (seconds - fewer)
    watch = contract.Stopwatch()
    images = history[0]["training"]["images"]
    watch.seconds = [images / epoch["images_per_second"] for epoch in history]
    contract.report_training(watch, images, LIBRARIES, **more)


def _result(made: Path) -> float:
    return json.loads((made / "result.json").read_text())["images_per_second"]


if __name__ == "__main__":
    main()
