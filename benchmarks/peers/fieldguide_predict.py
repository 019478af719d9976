"""fieldguide's own `predict`, from a folder to a CSV.

The command loads its model itself; so that loading, the first choice of an engine and compilation are left out as for
everybody, it is handed a predictor that is loaded and has predicted before: a few photos, or with `--engine auto` all
of them, since what it chooses depends on how many there are. What it does anew for each folder is in its time: with
`auto` the plain model computes the first batch, and the chosen engine is held against it.
"""

import os
import tempfile
from pathlib import Path
from unittest import mock

import contract
import torch

from fieldguide.commands import predict as command
from fieldguide.commands.judging.held import int8_of
from fieldguide.commands.judging.models import Loaded, run_of
from fieldguide.deploy.names import AUTO, INT8, PLAIN
from fieldguide.deploy.openvino_engine import Int8File
from fieldguide.deploy.predictor import load_predictor
from fieldguide.deploy.serving import NAMES
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description, find_bundle, read_description

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


def int8_file(made: Path) -> Int8File | None:
    """The proven export in int8 that a run holds."""
    return int8_of(run_of(made), read_description(find_bundle(made)))[0]


def by_the_library(options, made: Path) -> tuple[contract.Stopwatch, command.Predicted]:
    """The command's function with a predictor that is warm."""
    watch = contract.Stopwatch()
    predictor = load_predictor(
        made, "auto", options.engine, draft=options.engine != PLAIN, int8_file=int8_file(Path(made))
    )
    files = sorted(Path(options.photos).iterdir())
    warm = files if options.engine == AUTO else files[: predictor.engine_batch_size * 2]
    for _ in predictor.stream(warm, batch_size=predictor.engine_batch_size):
        pass
    predictor._computing.engine.served.clear()  # so that what is said below is of the timed photos alone
    loaded = Loaded(predictor, (made,), None)
    with mock.patch.object(command, "load_runs", return_value=loaded) as loading:
        with watch.running():
            written = command.predict(made, options.photos, options.output, engine=options.engine, quiet=True)
        if options.judged:
            command.predict(made, options.judged, contract.JUDGED, engine=options.engine, quiet=True)
    if not loading.called:
        raise SystemExit("the command loaded its model within the timed part")
    return watch, written


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--engine", choices=(*NAMES, INT8), default=AUTO)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["FIELDGUIDE_CACHE"] = name  # speeds of engines are measured here, and nobody's are changed
        made = Path(options.run) if options.run else bundle(Path(name), options.network, options.size)
        watch, written = by_the_library(options, made)
    contract.report_prediction(watch, written.images, LIBRARIES, served_by=written.engine)


if __name__ == "__main__":
    main()
