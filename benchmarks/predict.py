"""Prediction speed of fieldguide and its peers: ResNet50 from JPEG files to a closed CSV.

Usage: python benchmarks/predict.py [--photos PHOTOS] [--network resnet50] [--short]
benchmarks/README.md says what is compared, what is timed and why it is fair.
"""

import argparse
import csv
import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import photos
import side_by_side
from side_by_side import ALLOCATOR, BFLOAT16, HALF, NUMBERS, Contestant, Row

PLAIN = "torchvision loop, fp32"
AUTOCAST = (*HALF, "--channels-last")
FROZEN = (*(("--bf16-weights",) if BFLOAT16 else ()), "--channels-last", "--compile", "--freeze")
BY_COMMANDS = "fieldguide by the difference of two commands, openvino"
RAW = {engine: f"{engine} engine alone, random images" for engine in ("openvino", "folded", "plain")}
RAW["auto"] = RAW["openvino"]  # what it takes where OpenVINO is the fastest; the line below the table says who served


def _ours(engine: str) -> Contestant:
    """With the allocator's settings, as the command sets them for itself."""
    options = ("--engine", engine)
    return Contestant(f"fieldguide, {engine}", "fieldguide_predict.py", options, ALLOCATOR, True, RAW[engine])


CONTESTANTS = (
    Contestant(PLAIN, "torchvision_predict.py"),
    Contestant(f"torchvision loop, channels_last, {NUMBERS}", "torchvision_predict.py", AUTOCAST),
    Contestant(f"torchvision loop, compiled and frozen {NUMBERS}", "torchvision_predict.py", FROZEN),
    Contestant(f"timm, {NUMBERS}", "timm_predict.py", AUTOCAST),
    Contestant(f"timm, {NUMBERS}, compiled", "timm_predict.py", (*AUTOCAST, "--compile")),
    Contestant(f"timm, compiled and frozen {NUMBERS}", "timm_predict.py", FROZEN),
    Contestant("the same with fieldguide's allocator settings", "timm_predict.py", FROZEN, ALLOCATOR),
    Contestant("fastai", "fastai_predict.py", AUTOCAST),
    Contestant("Ultralytics", "ultralytics_predict.py", ("--channels-last",)),
    Contestant("Ultralytics, exported to OpenVINO", "ultralytics_predict.py", ("--openvino",)),
    *(_ours(engine) for engine in ("auto", "openvino", "folded", "plain")),
    Contestant(BY_COMMANDS, "fieldguide_predict.py", ("--command", "--engine", "openvino"), "", True, RAW["openvino"]),
    *(
        Contestant(name, "fieldguide_engine.py", ("--engine", engine), ALLOCATOR, True)
        for engine, name in RAW.items()
        if engine != "auto"
    ),
)
IN_SHORT = (
    PLAIN,
    f"timm, compiled and frozen {NUMBERS}",
    "fastai",
    "Ultralytics, exported to OpenVINO",
    "fieldguide, openvino",
    RAW["openvino"],
)
COLUMNS = (("memory, GB", "private_gb", 2), ("whole process, s", "wall_seconds", 0))


def main() -> None:
    """Prints and saves a table."""
    options = _options()
    chosen = [
        contestant
        for contestant in CONTESTANTS
        if (not options.only or any(part in contestant.name for part in options.only))
        and (not options.short or options.only or contestant.name in IN_SHORT)
    ]
    with tempfile.TemporaryDirectory() as folder:
        what = photos.stage_flat(options.photos, Path(folder), options.images)
        common = ["--photos", folder, "--network", options.network, "--batch", str(options.batch)]
        common += ["--size", str(options.size), "--output", "prediction.csv"]
        rows = side_by_side.run(
            chosen,
            common,
            options.rounds,
            side_by_side.python(options.python),
            options.timeout,
            functools.partial(_problem, images=options.images),
        )
    lines = [*side_by_side.table(rows, PLAIN, COLUMNS), "", f"Rounds: {options.rounds}.{_served(rows)}"]
    heading = f"{options.network}, {options.size} px, batch {options.batch}, {what}"
    command = ["python", "benchmarks/predict.py", *sys.argv[1:]]
    side_by_side.save(options.output, "Prediction, side by side", [(heading, lines, rows)], command)


def _served(rows: Sequence[Row]) -> str:
    """Which engine `auto` took."""
    engines = {str(result["served_by"]) for row in rows if "auto" in row.contestant.name for result in row.results}
    return f" `auto` was served by {' or '.join(sorted(engines))}." if engines else ""


def _problem(folder: Path, result: Mapping[str, object], images: int) -> str:
    """What is wrong with a contestant's CSV: a heading and a row a photo, each photo once."""
    if result.get("synthetic"):
        return ""
    file = folder / "prediction.csv"
    if not file.exists():
        return "it wrote no CSV"
    with open(file, newline="", encoding="utf-8") as opened:
        _, *rows = csv.reader(opened)
    names = {Path(row[0]).stem for row in rows}
    return "" if len(rows) == len(names) == images else f"{len(rows)} rows, {len(names)} names, {images} photos"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with train/CLASS; default: made-up photos of 500x375")
    parser.add_argument("--network", default="resnet50", choices=("resnet34", "resnet50", "resnetrs101"))
    parser.add_argument("--images", type=int, help="photos; must be a multiple of the batch, for compiled networks")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", nargs="+", metavar="PART", help="only contestants whose name contains one of these")
    parser.add_argument("--timeout", type=int, default=1800, metavar="SECONDS", help="time limit for one run")
    parser.add_argument("--python", help="the interpreter; default: that of `make bench-env`")
    parser.add_argument("--output", type=Path, default=None, metavar="STEM", help="writes STEM.md and STEM.json")
    parser.add_argument("--short", action="store_true", help="few photos and contestants, one round: a few minutes")
    options = parser.parse_args()
    short = options.short
    options.images = options.images or (128 if short else 2048)
    options.rounds = options.rounds or (1 if short else 3)
    options.output = options.output or side_by_side.HERE / "results" / ("predict-short" if short else "predict")
    if options.images % options.batch:
        parser.error(f"--images {options.images}: must be a multiple of --batch {options.batch}")
    return options


if __name__ == "__main__":
    main()
