"""One run of a script in `peers/accuracy_*.py`, in its own process, and its result."""

import argparse
import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import children
import paths
import side_by_side
from accuracy_results import read_csv

PHOTOS_HELP = "holds train/CLASS and val/CLASS; of all else in it nothing is trained on, nor does it choose anything"


def run_once(
    command: Sequence[str], timeout_seconds: int, setting: Mapping[str, object]
) -> tuple[dict[str, object], str]:
    """What a script of `peers/` printed and wrote, or why it failed.

    Args:
        command: as it is typed.
        timeout_seconds: after which it has failed.
        setting: of the results, with the photos of val/ and their classes.
    """
    with tempfile.TemporaryDirectory() as folder:
        ended = children.run(command, Path(folder), timeout_seconds)
        if ended.failure:
            return {}, ended.failure
        try:
            said = json.loads(ended.output.strip().splitlines()[-1])
            predicted = read_csv(Path(folder) / "predicted.csv", setting["photos"])
        except (OSError, ValueError, IndexError, KeyError) as error:
            return {}, f"could not run: {paths.shareable_text(str(error))}"
    right = sum(a == b for a, b in zip(predicted, setting["photos"]["classes"], strict=True))
    if "recipe" in said:
        said["recipe"] = paths.shareable_text(said["recipe"])
    return {
        **said,
        "seconds_used": ended.wall_seconds - said["prediction_seconds"],
        "wall_seconds": ended.wall_seconds,
        "other_cores": ended.other_cores,
        "accuracy": right / len(predicted),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": side_by_side.machine(),
        "predicted": predicted,
    }, ""


def read_once(photos: Path) -> None:
    """Reads every photo, so that nobody's first run reads from a cold disk."""
    for file in photos.glob("*/*/*"):
        file.read_bytes()


def add_options(parser: argparse.ArgumentParser, results: str) -> None:
    """The options of a program that trains on the same photos again and again.

    Args:
        parser: gets them.
        results: the name of the file in `results/` that holds its runs unless another is named.
    """
    parser.add_argument("--photos", type=Path, help=PHOTOS_HELP)
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="first weights of all methods (safetensors, timm's names)"
    )
    parser.add_argument("--backbone", default="resnet18.tv_in1k", help="timm's name of the network of the weights")
    parser.add_argument("--size", type=int, default=128, help="side of the network's input, in pixels")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=side_by_side.HERE / "results" / results, metavar="FILE")
    parser.add_argument("--python", help="the interpreter; left out: that of `make bench-env`")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the results into this page; run nothing")
