"""What every contestant's script takes and prints, so that all of them are timed alike.

Training: an epoch's clock runs from asking the loader for its first batch until the last update is done; decoding (of
those that decode in each epoch), augmentation, the loader's own start and its end are in it; process start, imports,
building the network and the loader object, and a cache that is filled before, are not. The first epoch warms up
(compilation, worker start) and is told apart from the later ones.
Prediction: the clock runs from listing the folder until the CSV is closed; process start, imports, building the network
and one warm-up batch (compilation) are not in it. With --whole there is no warm-up batch, and the process is timed.
The last line that a script prints is one JSON object.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NETWORKS = {"resnet34": "resnet34.tv_in1k", "resnet50": "resnet50.a1_in1k", "resnetrs101": "resnetrs101.tf_in1k"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JUDGED = "judged.csv"  # predictions of the labelled photos


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every contestant takes; a script adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", required=True, help="folder with train/CLASS and val/CLASS; prediction takes any")
    parser.add_argument("--network", choices=NETWORKS, default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="epochs; the first does not count")
    parser.add_argument("--output", default="prediction.csv", help="CSV for predictions")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--fused", action="store_true", help="use fused Adam")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0: its own choice")
    parser.add_argument("--run", help="predict with this run's network instead of --network with random weights")
    parser.add_argument("--judged", help=f"folder that is predicted afterwards, not timed, to {JUDGED}")
    parser.add_argument("--calibration", help="folder with train/CLASS for a quantisation")
    parser.add_argument("--kept", help="folder for what later processes may use: exports, caches")
    parser.add_argument("--whole", action="store_true", help="no warm-up batch: the whole process is timed")
    return parser


def network(options: argparse.Namespace):
    """Images, normalised, to logits: the run's trained network, or one with random weights; in evaluation mode."""
    if options.run:
        from fieldguide.model.bundle import load_classifier
        from fieldguide.model.description import find_bundle

        return load_classifier(find_bundle(Path(options.run)))[0]
    import timm

    return timm.create_model(NETWORKS[options.network]).eval()


def device():
    """A GPU where there is one."""
    import torch

    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def set_threads(count: int) -> None:
    """Threads of torch's arithmetic."""
    import torch

    if count:
        torch.set_num_threads(count)


class Stopwatch:
    """Seconds of each stretch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def start(self) -> None:
        self._began = time.perf_counter()

    def stop(self) -> None:
        _wait_for_gpu()
        self.seconds.append(time.perf_counter() - self._began)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        yield
        self.stop()


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def report_training(stopwatch: Stopwatch, images_per_epoch: int, libraries: tuple[str, ...], **more: object) -> None:
    """Prints the result of a training."""
    first, *later = stopwatch.seconds
    _print(
        {
            "images_per_second": images_per_epoch * len(later) / sum(later),
            "first_epoch_images_per_second": images_per_epoch / first,
            "images_per_epoch": images_per_epoch,
            "epoch_seconds": stopwatch.seconds,
            **more,
        },
        libraries,
    )


def time_prediction(
    predict: Callable[[str, str], int], options: argparse.Namespace, libraries: tuple[str, ...]
) -> None:
    """Times `predict`, from (folder, CSV) to how many photos it predicted, and prints the result."""
    watch = Stopwatch()
    with watch.running():
        images = predict(options.photos, options.output)
    if options.judged:
        predict(options.judged, JUDGED)
    report_prediction(watch, images, libraries)


def report_prediction(stopwatch: Stopwatch, images: int, libraries: tuple[str, ...], **more: object) -> None:
    """Prints the result of a prediction."""
    (seconds,) = stopwatch.seconds
    _print({"images_per_second": images / seconds, "images": images, "seconds": seconds, **more}, libraries)


def _print(result: dict[str, object], libraries: tuple[str, ...]) -> None:
    result["versions"] = {name: importlib.metadata.version(name) for name in ("torch", *libraries)}
    tunables = os.environ.get("GLIBC_TUNABLES")
    print(json.dumps(result | ({"GLIBC_TUNABLES": tunables} if tunables else {})), flush=True)
