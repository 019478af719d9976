"""fieldguide's own `predict`, from a folder to a CSV.

The command loads its model itself; so that loading, the first choice of an engine and compilation are left out as for
everybody, it is handed a predictor that is loaded and has predicted before: a few photos, or with `--engine auto` all
of them, since what it chooses depends on how many there are. What it does anew for each folder is in its time: with
`auto` the plain model computes the first batch, and the chosen engine is held against it. With --command the real
command runs instead, once with all photos and once with few, and what counts is the difference of the two processes'
wall times.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import contract
import torch

from fieldguide.commands import predict as command
from fieldguide.commands.judging.models import Loaded
from fieldguide.deploy.names import AUTO, PLAIN
from fieldguide.deploy.predictor import load_predictor
from fieldguide.deploy.serving import NAMES
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description

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


def by_the_library(options, made: Path) -> tuple[contract.Stopwatch, command.Predicted]:
    """The command's function with a predictor that is warm."""
    watch = contract.Stopwatch()
    predictor = load_predictor(made, "auto", options.engine, draft=options.engine != PLAIN)
    files = sorted(Path(options.photos).iterdir())
    warm = files if options.engine == AUTO else files[: predictor.engine_batch_size * 2]
    for _ in predictor.stream(warm, batch_size=predictor.engine_batch_size):
        pass
    predictor._computing.engine.served.clear()  # so that what is said below is of the timed photos alone
    loaded = Loaded(predictor, (made,), None)
    with mock.patch.object(command, "load_runs", return_value=loaded) as loading, watch.running():
        written = command.predict(made, options.photos, options.output, engine=options.engine, quiet=True)
    if not loading.called:
        raise SystemExit("the command loaded its model within the timed part")
    return watch, written


def by_the_command(options, made: Path, folder: Path) -> tuple[contract.Stopwatch, int]:
    """Two processes; what the second takes longer for the photos that it has more."""
    files = sorted(Path(options.photos).iterdir())
    if len(files) <= options.batch * 2:
        raise SystemExit(f"the difference of two commands needs more than {options.batch * 2} photos")
    python, few = [sys.executable, "-m", "fieldguide"], folder / "few"
    few.mkdir()
    for file in files[: options.batch * 2]:
        shutil.copyfile(file, few / file.name)

    def seconds(photos: Path | str, output: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            [*python, "predict", str(made), str(photos), "-o", output, "--engine", options.engine],
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
    parser.add_argument("--engine", choices=NAMES, default=AUTO)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FIELDGUIDE_CACHE"] = name  # speeds of engines are measured here, and nobody's are changed
        made = bundle(folder, options.network, options.size)
        if options.command:
            watch, images = by_the_command(options, made, folder)
            served_by = options.engine
        else:
            watch, written = by_the_library(options, made)
            images, served_by = written.images, written.engine
    contract.report_prediction(watch, images, LIBRARIES, served_by=served_by)


if __name__ == "__main__":
    main()
