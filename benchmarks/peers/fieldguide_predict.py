"""fieldguide's own `predict`, from a folder to a CSV.

The command loads its model itself; so that loading, the choice of an engine and compilation are left out as for
everybody, it is handed a predictor that is loaded and has predicted a few photos. With --command the real command runs
instead, once with all photos and once with few, and the difference of the two processes' wall times is what counts.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contract
import torch

from fieldguide.commands import predict as command
from fieldguide.deploy.predictor import load_predictor
from fieldguide.model.bundle import Description, write_bundle
from fieldguide.model.classifier import Architecture, make_classifier

LIBRARIES = ("fieldguide", "timm", "torchvision", "pillow")
CLASSES = 1000


def bundle(folder: Path, network: str, size: int) -> Path:
    """A bundle with weights by chance and the preprocessing that everybody has."""
    preprocessing = {
        "image_size_px": size,
        "resize_px": round(size / 0.875),
        "interpolation": "bilinear",
        "mean": list(contract.MEAN),
        "std": list(contract.STD),
    }
    torch.manual_seed(0)
    architecture = Architecture(contract.NETWORKS[network], "linear", None, 0.0, CLASSES)
    classes = tuple(f"class_{place:04}" for place in range(CLASSES))
    weights = make_classifier(architecture).state_dict()
    write_bundle(folder / "bundle", Description(architecture, classes, preprocessing, None), weights)
    return folder / "bundle"


def by_the_library(options, made: Path) -> tuple[contract.Stopwatch, int]:
    """The command's function with a predictor that is warm."""
    watch = contract.Stopwatch()
    predictor = load_predictor(made)
    first = sorted(Path(options.photos).iterdir())[: options.batch * 2]
    list(predictor.stream(first))
    command.load_predictor = lambda *_, **__: predictor
    with watch.running():
        written = command.predict(made, options.photos, options.output, quiet=True)
    return watch, written.images


def by_the_command(options, made: Path, folder: Path) -> tuple[contract.Stopwatch, int]:
    """Two processes; what the second takes longer for the photos that it has more."""
    files = sorted(Path(options.photos).iterdir())
    few = folder / "few"
    few.mkdir()
    for file in files[: options.batch * 2]:
        shutil.copyfile(file, few / file.name)

    def seconds(photos: Path | str, output: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fieldguide", "predict", str(made), str(photos), "-o", output],
            check=True,
            stdout=sys.stderr,
        )
        return time.perf_counter() - began

    watch = contract.Stopwatch()
    seconds(few, str(folder / "few.csv"))  # so that both find whatever the command caches
    start = seconds(few, str(folder / "few.csv"))
    watch.seconds = [seconds(options.photos, options.output) - start]
    return watch, len(files) - options.batch * 2


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--command", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = bundle(folder, options.network, options.size)
        watch, images = by_the_command(options, made, folder) if options.command else by_the_library(options, made)
    contract.report_prediction(watch, images, LIBRARIES)


if __name__ == "__main__":
    main()
