"""What every contestant of `accuracy.py` takes, writes and prints.

A script trains on train/, lets its own library predict val/ and writes a CSV of file,true,predicted: `file` is
CLASS/NAME below val/, classes go by name. The last line that it prints is one JSON object. Its whole process is timed
from outside; only the seconds that it tells as spent on predicting val/ at the very end are taken off again.
"""

import argparse
import csv
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from contract import MEAN as MEAN  # for the scripts, which import this module alone
from contract import STD as STD
from contract import Stopwatch as Stopwatch

HEADING = ("file", "true", "predicted")
IN_A_CHILD_OF_TORCHVISION = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every contestant takes; a script adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", required=True, type=Path, help="folder with train/CLASS and val/CLASS")
    parser.add_argument("--backbone", required=True, help="timm's name, such as resnet18.tv_in1k")
    parser.add_argument("--weights", required=True, type=Path, help="safetensors, in timm's names")
    parser.add_argument("--size", required=True, type=int, help="side of the network's input, in pixels")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", default="predicted.csv")
    return parser


def torchvision_name(backbone: str) -> str:
    """torchvision's name of a plain ResNet of timm; exits where torchvision has no such network."""
    name, _, _ = backbone.partition(".")
    if name not in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        raise SystemExit(f"torchvision has no {backbone}, and this script takes only its networks")
    return name


def without_head(weights: Path) -> dict[str, object]:
    """The weights file for a torchvision ResNet that is a Sequential of its parts without pooling and classifier."""
    from safetensors.torch import load_file

    state = {}
    for name, value in load_file(weights).items():
        part, _, rest = name.partition(".")
        if part != "fc":
            state[f"{IN_A_CHILD_OF_TORCHVISION[part]}.{rest}"] = value
    return state


def is_bfloat16_native(device) -> bool:
    """Whether the device multiplies bf16 itself; elsewhere it is emulated, and far slower than fp32."""
    from fieldguide.world import multiplies_bfloat16

    return multiplies_bfloat16(device)


def write(output: str, files: Iterable[Path | str], predicted: Iterable[str], photos: Path) -> None:
    """The CSV: a row a photo of val/."""
    with open(output, "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(HEADING)
        for file, name in zip(files, predicted, strict=True):
            inside = (photos / "val" / file).relative_to(photos / "val")
            writer.writerow((inside.as_posix(), inside.parts[0], name))


def report(epoch_seconds: Sequence[float], prediction_seconds: float, libraries: Sequence[str], **more: object) -> None:
    """Prints the result."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", *libraries)}
    result = {
        "epochs": len(epoch_seconds),
        "epoch_seconds": list(epoch_seconds),
        "prediction_seconds": prediction_seconds,
        "versions": versions,
        **more,
    }
    sys.stdout.flush()
    print(json.dumps(result), flush=True)
