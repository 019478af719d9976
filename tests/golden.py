"""Small trainings whose every number is known: a change that is to change no number is held against them.

    python -m tests.golden                  trains, and prints SHA-256 of weights, figures and predictions
    python -m tests.golden --write          puts them into tests/golden.json, for the kind of machine that this is
    python -m tests.golden --keep FOLDER    leaves photos and runs there, to look at what differs

It knows the program's command line and the files of a run alone, so that it outlives what changes inside. All that
could vary between two calls is fixed: threads, instructions, seeds, the cache, and no plan is made by the clock. What
still changes the bits, processor and versions, is in the kind's name.
"""

import argparse
import contextlib
import csv
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.golden_photos import digits, made_up, made_up_flat

GOLDEN = Path(__file__).with_suffix(".json")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "opencv-python-headless")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
FIXED = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_CBWR": "COMPATIBLE",  # sums in one order, however the memory is aligned
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "FIELDGUIDE_ALLOCATOR": "system",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    "COLUMNS": "120",
}
HEAVY = (
    *("torch", "torchvision", "timm", "cv2", "sklearn.model_selection", "sklearn.linear_model", "scipy.stats"),
    *("captum.attr", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "jinja2", "imagehash"),
    *("pydantic", "typer", "yaml", "rich.progress", "fieldguide.cli"),
)

# Fields that are numbers, by their way from a line of history.jsonl or from result.json; `*` goes into each of a list.
# Where a field gets another name, it gets it here: the values alone are hashed.
SCORES = ("images", "loss", "accuracy", "macro_accuracy")
HISTORY = (
    *("epoch", "stage_number", "learning_rate", "best", "training.images", "training.loss", "training.accuracy"),
    *(f"validation.{name}" for name in SCORES),
)
BOUNDED = tuple(f"{name}{end}" for name in ("accuracy", "macro_accuracy") for end in ("", "_low", "_high"))
FIGURES = (
    *("seed", "num_classes", "parameters.total", "parameters.backbone", "parameters.head", "epochs", "best_epoch"),
    *("training.images", "training.loss", "training.accuracy"),
    *(f"validation.{name}" for name in ("images", "loss", *BOUNDED)),
    *(f"calibration.{name}_{when}" for name in ("log_loss", "ece") for when in ("before", "after")),
    "calibration.temperature",
    *(f"test_time.{name}" for name in ("image_size_px", "crop_share", "taken", "tried.*.loss")),
    *(f"soup.{name}" for name in ("candidates", "epochs", "before.loss", "after.loss", "is_kept")),
    *(f"stages.*.{name}" for name in ("learning_rate", "epochs", "improved")),
    *("probe.training.loss", "probe.validation.loss", "probe.validation.accuracy"),
    *(f"split.{part}" for part in ("train", "val", "test", "excluded")),
)

PRESETS = ("resnet34-adam", "resnet34-sgd", "resnet50-adam", "resnet50-sgd", "resnetrs101-adam")
TINY = dict.fromkeys(PRESETS, "test_resnet") | {"resnetrs101-adam": "test_efficientnet"}
SHRUNK = (
    *("rules.backbones=null", "data.image_size_px=32"),
    *("training.batch_size=8", "training.phases.0.max_epochs=2", "training.phases.1.max_epochs=2"),
    *("training.rounds=1", "training.rounds.max_epochs=1"),
)
PLAN = """
execution: fast
model: {backbone: test_resnet, head: linear}
data: {image_size_px: 32, test_flips: horizontal}
split: {validation_share: 0.3}
training:
  precision: fp32
  batch_size: 8
  micro_batch_size: 8
  optimizer: adamw
  learning_rate: 0.0003
  layer_decay: 0.6
  weight_decay: 0.05
  weight_decay_on: matrices
  schedule: cosine
  warmup_epochs: 0.5
  label_smoothing: 0.1
  mixup_alpha: 0.2
  cutmix_alpha: 1.0
  mix_probability: 0.5
  best_by: validation_accuracy
  phases:
    - {method: probe, augmentation: none, max_epochs: 1, trainable: head, batch_norm: folded}
    - {augmentation: mild, max_epochs: 3, patience_epochs: 3, batch_norm: folded}
  rounds: {max_rounds: 1, max_epochs: 2, patience_epochs: 2}
"""
MANY = """
execution: fast
model: {backbone: test_resnet, head: bottleneck, head_width: 16}
data: {image_size_px: 32, crop_share: 0.9, test_size_px: auto, test_crop_share: auto, cache_side_px: 48}
split: {validation_share: 0.3}
augmentation:
  engine: fused
  policies:
    many: {crop_scale: [0.3, 1.0], trivial_augment: wide, erasing: 0.5}
training:
  seed: 3
  precision: fp32
  batch_size: 8
  micro_batch_size: 3
  optimizer: sgd
  learning_rate: 0.05
  head_learning_rate_factor: 2
  gradient_clip_norm: 1.0
  schedule: constant
  mixup_alpha: 0.4
  ema_decay: 0.7
  soup: greedy
  soup_candidates: 3
  metric: macro_accuracy
  phases:
    - {augmentation: strong, max_epochs: 2, image_size_px: 24}
    - {augmentation: many, max_epochs: 3, batch_norm: folded, trainable: last_two_stages}
  rounds: 0
"""


def kind_of_machine() -> str:
    """What the bits depend on, in words."""
    vendor, flags = platform.processor() or "unknown", set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            vendor = value if name == "vendor_id" else vendor
            flags |= set(value.split()) if name in ("flags", "Features") else set()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return ", ".join([platform.machine(), vendor, *(flag for flag in FLAGS if flag in flags), *versions])


def golden(folder: Path) -> dict[str, dict[str, str]]:
    """Trains everything in `folder`; SHA-256 of each part of each training."""
    os.environ |= FIXED | {"FIELDGUIDE_CACHE": str(folder / "cache")}  # before any process begins
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(HEAVY))  # imported once; each command is a process of its own all the same
    photos, flat, scans = made_up(folder / "photos"), made_up_flat(folder / "flat"), digits(folder / "digits")
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (folder / "many.yaml").write_text(MANY, encoding="utf-8")

    def run(name: str, source: Path, *arguments: str, after: Callable[[], Any] = lambda: None) -> dict[str, str]:
        after()
        where, predicted = folder / "runs" / name, folder / f"{name}.csv"
        _command(processes, folder, "train", source, "-o", where, "--device", "cpu", *arguments)
        to = ("-o", predicted, "--engine", "plain", "--device", "cpu", "--top", "3")
        _command(processes, folder, "predict", where, source / "test", *to)
        return hashes(where, predicted)

    random = ("--weights", "none")
    with ThreadPoolExecutor(2) as pool:
        found = {
            name: pool.submit(
                run, name, photos, "--recipe", name, *random, *_set(f"model.backbone={backbone}", *SHRUNK)
            )
            for name, backbone in TINY.items()
        }
        epochs = _set("training.phases.0.max_epochs=2", "training.batch_size=16")
        found["digits"] = pool.submit(run, "digits", scans, "--recipe", "digits", *random, *epochs)
        found["many"] = pool.submit(run, "many", flat, "--recipe", str(folder / "many.yaml"), *random)
        plan = ("--recipe", str(folder / "plan.yaml"), "--weights", str(folder / "runs" / PRESETS[0]))
        found["plan"] = pool.submit(run, "plan", flat, *plan, after=found[PRESETS[0]].result)
        return {name: future.result() for name, future in found.items()}


def hashes(run: Path, predicted: Path) -> dict[str, str]:
    """SHA-256 of what a training made, by part."""
    from safetensors.numpy import load_file

    weights = load_file(run / "bundle/model.safetensors")
    with np.load(run / "predictions.npz") as stored:
        validation = {name: stored[name] for name in ("files", "labels", "logits", "classes")}
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    with predicted.open(encoding="utf-8", newline="") as file:
        rows = [
            [value for column, value in row.items() if column == "image" or column.startswith(("label", "confidence"))]
            for row in csv.DictReader(file)
        ]
    return {
        "weights": _of_arrays(weights),
        "validation": _of_arrays(validation),
        "history": _of_values([[_at(line, field) for field in HISTORY] for line in lines]),
        "figures": _of_values([_at(result, field) for field in FIGURES]),
        "predictions": _of_values(rows),
    }


def differences(expected: dict[str, dict[str, str]], found: dict[str, dict[str, str]]) -> list[str]:
    """`digits: weights, history` for each training that is not as it was."""
    told = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected or name not in found:
            told.append(f"{name}: only {'here' if name in found else 'in golden.json'}")
            continue
        parts = expected[name].keys() | found[name].keys()
        differing = sorted(part for part in parts if expected[name].get(part) != found[name].get(part))
        if differing:
            told.append(f"{name}: {', '.join(differing)}")
    return told


def _at(values: Any, way: str) -> Any:
    """The value at `way`; null where a part on the way is null."""
    first, _, rest = way.partition(".")
    if values is None:
        return None
    if first == "*":
        return [_at(value, rest) for value in values]
    return _at(values[first], rest) if rest else values[first]


def _of_values(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, allow_nan=False).encode()).hexdigest()


def _of_arrays(arrays: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _set(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _command(processes: Any, folder: Path, *arguments: Any) -> None:
    """One command of the program in a process of its own; its output is shown where it fails."""
    descriptor, log = tempfile.mkstemp(dir=folder, suffix=".log")
    os.close(descriptor)
    process = processes.Process(target=_carry_out, args=([str(argument) for argument in arguments], log))
    process.start()
    process.join()
    if process.exitcode:
        output = Path(log).read_text(encoding="utf-8")
        raise SystemExit(f"fieldguide {' '.join(map(str, arguments))} ended with {process.exitcode}:\n{output}")


def _carry_out(arguments: Sequence[str], log: str) -> None:
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["fieldguide", *arguments]
    from matplotlib.figure import Figure

    Figure.savefig = _saved_as_an_empty_picture  # half of a small training's time is its drawings'
    from fieldguide.cli import main

    main()


def _saved_as_an_empty_picture(figure: Any, target: Any, format: str | None = None, **options: Any) -> None:
    if format == "svg":
        target.write(b'<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"></svg>\n')
    else:
        Image.new("RGB", (1, 1)).save(target, "png")


def main() -> None:
    """Trains, and prints or writes what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden")
    parser.add_argument("--write", action="store_true", help=f"put it into {GOLDEN.name}")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder, where photos and runs stay")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-")))
        folder.mkdir(parents=True, exist_ok=True)
        found = {kind_of_machine(): golden(folder.resolve())}
    if arguments.write:
        known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps(known | found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
