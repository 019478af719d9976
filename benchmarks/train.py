"""Training speed of fieldguide and its peers: images per second end to end from JPEG files.

Usage: python benchmarks/train.py [--photos PHOTOS] [--networks resnet34 resnet50] [--short]
benchmarks/README.md says what is compared, what is timed and why it is fair.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import photos
import side_by_side
from side_by_side import ALLOCATOR, HALF, Contestant

BEST = (*HALF, "--channels-last", "--fused")
REPORT = "the report's way"
CONTESTANTS = (
    Contestant(REPORT, "report_train.py"),
    Contestant("torchvision loop", "torchvision_train.py", BEST),
    Contestant("timm", "timm_train.py", BEST),
    Contestant("timm, compiled", "timm_train.py", (*BEST, "--compile")),
    Contestant("timm with fieldguide's allocator settings", "timm_train.py", BEST, ALLOCATOR),
    Contestant("fastai", "fastai_train.py", BEST),
    Contestant("Ultralytics", "ultralytics_train.py", ("--cache", "--compile")),
    Contestant("fieldguide, exact", "fieldguide_train.py", ("--execution", "exact"), is_ours=True),
    Contestant("fieldguide, batch norm trained", "fieldguide_train.py", ("--batch-norm", "train"), is_ours=True),
    Contestant("fieldguide, batch norm folded", "fieldguide_train.py", ("--batch-norm", "folded"), is_ours=True),
    Contestant(
        "fieldguide, folded, last two stages",
        "fieldguide_train.py",
        ("--batch-norm", "folded", "--trainable", "last_two_stages"),
        is_ours=True,
    ),
)
IN_SHORT = (REPORT, "timm", "fastai", "fieldguide, batch norm trained", "fieldguide, batch norm folded")
COLUMNS = (
    ("first epoch, images/s", "first_epoch_images_per_second", 1),
    ("memory, GB", "private_gb", 2),
    ("whole process, s", "wall_seconds", 0),
)


def main() -> None:
    """Prints and saves a table a network."""
    options = _options()
    chosen = [
        contestant
        for contestant in CONTESTANTS
        if (not options.only or any(part in contestant.name for part in options.only))
        and (not options.short or options.only or contestant.name in IN_SHORT)
    ]
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        what = photos.stage(options.photos, Path(folder), options.images, options.batch)
        for network in options.networks:
            common = ["--photos", folder, "--network", network, "--batch", str(options.batch)]
            common += ["--size", str(options.size), "--epochs", str(options.epochs)]
            interpreter = side_by_side.python(options.python)
            rows = side_by_side.run(chosen, common, options.rounds, interpreter, options.timeout)
            lines = side_by_side.table(rows, REPORT, COLUMNS)
            heading = f"{network}, {options.size} px, batch {options.batch}, {what}"
            lines += ["", f"Rounds: {options.rounds}, of {options.epochs} epochs each, the first not counted."]
            sections.append((heading, lines, rows))
    command = ["python", "benchmarks/train.py", *sys.argv[1:]]
    side_by_side.save(options.output, "Training, side by side", sections, command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with train/CLASS; default: made-up photos of 500x375")
    parser.add_argument("--networks", nargs="+", default=None, choices=("resnet34", "resnet50", "resnetrs101"))
    parser.add_argument("--images", type=int, help="training photos; must be a multiple of the batch")
    parser.add_argument("--epochs", type=int, help="epochs of a run, including the first")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", nargs="+", metavar="PART", help="only contestants whose name contains one of these")
    parser.add_argument("--timeout", type=int, default=1800, metavar="SECONDS", help="time limit for one run")
    parser.add_argument("--python", help="the interpreter; default: that of `make bench-env`")
    parser.add_argument("--output", type=Path, default=None, metavar="STEM", help="writes STEM.md and STEM.json")
    parser.add_argument("--short", action="store_true", help="ResNet34, few contestants, one round: a few minutes")
    options = parser.parse_args()
    short = options.short
    options.networks = options.networks or (["resnet34"] if short else ["resnet34", "resnet50", "resnetrs101"])
    options.images = options.images or (64 if short else 512)
    options.epochs = options.epochs or (2 if short else 3)
    options.rounds = options.rounds or (1 if short else 3)
    options.output = options.output or side_by_side.HERE / "results" / ("train-short" if short else "train")
    if options.images % options.batch:
        parser.error(f"--images {options.images}: must be a multiple of --batch {options.batch}")
    if options.epochs < 2:
        parser.error("--epochs: the first is not counted, so 2 or more")
    return options


if __name__ == "__main__":
    main()
