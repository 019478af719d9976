"""A run's folder as `train` leaves it, made up without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fieldguide.data.read.thumbnail import jpeg
from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.metrics import judge
from fieldguide.evaluation.predictions import Predictions, write_predictions
from fieldguide.report.choice import choose
from fieldguide.report.chosen import chosen
from fieldguide.result_format import RESULT_FORMAT
from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_json, write_text

MAPS = ("thumbnail", "predicted_map", "actual_map")


def predictions(
    classes: tuple[str, ...], per_class: int = 6, seed: int = 0, name: str = "{}.jpg", edge: float = 1
) -> Predictions:
    """The larger the edge of the true class, the more are right; at 1, most are."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class)
    logits = rng.normal(size=(len(labels), len(classes))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += edge + np.sqrt(2 * np.log(len(classes)))
    files = tuple(f"val/{classes[label]}/{name.format(place)}" for place, label in enumerate(labels))
    return Predictions(files, labels, logits, classes)


def made_up_run(
    path: Path, classes: tuple[str, ...] = ("ant", "bee", "crab"), *, kept: bool = True, **of_predictions: Any
) -> RunFolder:
    """A finished run; `kept`: with predictions and a gallery."""
    run, found = RunFolder(path), predictions(classes, **of_predictions)
    run.make()
    write_result(run, found)
    write_text(run.recipe, "# a recipe\nmodel:\n  backbone: resnet18.tv_in1k\n")
    write_json(run.environment, {"device": "cpu", "cpus": 2, "python": "3.11.7", "libraries": {"torch": "2.6"}})
    train = [f"train/{c}/{i}.jpg,{quoted(c)},train,00," for c in classes for i in range(4)]
    rows = [f"{quoted(file)},{quoted(file.split('/')[1])},val,11," for file in found.files]
    write_text(run.split, "\n".join(["file,class,part,content_hash,reason", *map(_quoted_file, train), *rows]) + "\n")
    write_text(run.history, "".join(json.dumps(epoch(number)) + "\n" for number in range(1, 7)))
    if kept:
        keep(run, found)
    return run


def quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _quoted_file(line: str) -> str:
    return quoted(line.split(",")[0]) + line[len(line.split(",")[0]) :]


def epoch(number: int) -> dict[str, Any]:
    loss, accuracy = 3 / number, 1 - 1 / (number + 1)
    stage = {"stage_number": 1 + number // 4, "kind": "phase", "stage": "strong" if number >= 4 else "standard"}
    return {
        "epoch": number,
        **stage,
        "learning_rate": 0.001,
        "training": {"images": 12, "loss": loss + 0.2, "accuracy": accuracy - 0.1},
        "validation": {"images": 18, "loss": loss, "accuracy": accuracy},
        "seconds": 2.0,
        "images_per_second": 100.0,
        "best": number in (1, 3, 5),
    }


def write_result(run: RunFolder, found: Predictions, **changes: Any) -> None:
    judged = judge(found.probabilities(), found.labels, found.classes)
    validation = {key: value for key, value in judged.items() if key not in ("per_class", "confused_pairs")}
    stage = {"kind": "phase", "name": "standard", "learning_rate": 0.001, "epochs": 3, "improved": True}
    result = {
        "format": RESULT_FORMAT,
        "recipe": "resnet34-adam",
        "backbone": "resnet18.tv_in1k",
        "optimizer": "adam",
        "execution": "exact",
        "seed": 0,
        "num_classes": len(found.classes),
        "parameters": {"total": 11_178_051, "backbone": 11_176_512, "head": 1_539},
        "rules": {"kept": True, "broken": [], "unverified": ["nobody knows the weights"], "max_parameters": 10**8},
        "weights": {"source": "hub", "pretrained_on": "imagenet-1k"},
        "training": {"images": 12, "loss": 0.5, "accuracy": 0.9},
        "validation": validation | {"failed": [], "chose": chosen([5], 6, "validation_loss", "accuracy")},
        "test": None,
        "test_evaluations": 0,
        "epochs": 6,
        "best_epoch": 5,
        "stages": [stage | {"reason": {"kind": "converged", "text": "no better for 3 epochs"}}],
        "stopped": None,
        "seconds": 12.0,
        "images_per_second": 100.0,
        "split": {"fingerprint": "ab" * 32, "train": 12, "val": len(found.files), "test": 0, "excluded": 0},
        "remarks": ["a class has few photos"],
    }
    run.write_result(result | changes)


def keep(run: RunFolder, found: Predictions) -> None:
    suspected, rng = suspects(found), np.random.default_rng(0)
    choice = choose(found, found.probabilities(), suspected)
    write_predictions(run.predictions, found)
    write_text(run.label_errors, "file,given,suggested,confidence,given_confidence,correct_class\n")
    run.gallery.mkdir()
    photos, probabilities = {}, found.probabilities()
    for file in choice.files():
        row, names = found.files.index(file), [f"{len(photos):03d}-{part}.jpg" for part in MAPS]
        for name in names:
            picture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(28, 0).repeat(28, 1)
            (run.gallery / name).write_bytes(jpeg(picture))
        actual, predicted = int(found.labels[row]), int(probabilities[row].argmax())
        photos[file] = dict(zip(MAPS, names, strict=True)) | {
            "actual": found.classes[actual],
            "predicted": found.classes[predicted],
            "confidence": float(probabilities[row, predicted]),
            "actual_confidence": float(probabilities[row, actual]),
        }
    write_json(run.gallery_index, choice.to_dict() | {"photos": photos, "no_maps": ""})
