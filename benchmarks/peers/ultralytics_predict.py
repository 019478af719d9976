"""Ultralytics' predict, in batches and as a stream: its own network, or with --run the run's network in its own.

As it is, fp32 on a CPU, with its own compile; with --openvino by its own export to OpenVINO, in fp16 or int8. OpenVINO
computes what is not in int8 in bf16, where the processor does so natively.

With --run, the network is put in the place of Ultralytics' own, between the division by 255 that it does and the
probabilities that it takes. It resizes the shorter side to the network's size, where the network was trained to see
the centre of a larger one; a predictor of ours changes that one number, and costs no time.
"""

import contextlib
import csv
import logging
import os
import tempfile
from pathlib import Path

import contract

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # its settings file stays out of the home folder
os.environ |= {"YOLO_AUTOINSTALL": "false", "NNCF_CI": "1"}  # no reports of NNCF to its makers

import numpy as np
import torch
from torch import nn
from torchvision.transforms import Resize
from ultralytics import YOLO
from ultralytics.models.yolo.classify import ClassificationPredictor
from ultralytics.utils import LOGGER, torch_utils
from ultralytics_train import CHANNELS, model_file

BITS = {"fp16": 16, "int8": 8}


class Layer(nn.Module):
    """Pixels in 0..1 to probabilities, as Ultralytics' list of layers wants it."""

    f, i, type = -1, 0, "Layer"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", contract.MEAN), ("std", contract.STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) to (batch, classes)."""
        return self.network((images - self.mean) / self.std).softmax(dim=1)


class Larger(ClassificationPredictor):
    """Resizes to 1 / 0.875 of the network's size before it takes the centre."""

    def setup_source(self, source) -> None:
        super().setup_source(source)
        first = self.host_transforms.transforms[0]
        self.host_transforms.transforms[0] = Resize(round(first.size / 0.875), interpolation=first.interpolation)


def load(options, folder: Path) -> YOLO:
    """The network in PyTorch."""
    if not options.run:
        return YOLO(model_file(options.network, folder, classes=1000), task="classify")
    network = contract.network(options)
    classes = network.head[-1].out_features
    made = YOLO(model_file(next(iter(CHANNELS)), folder, classes), task="classify")
    made.model.model = nn.Sequential(Layer(network))
    return made


def exported(options, folder: Path) -> YOLO:
    """Its own export to OpenVINO, made once for each folder."""
    marker = folder / f"{options.openvino}.txt"
    if not marker.exists():
        more = {"data": options.calibration, "split": "train"} if options.openvino == "int8" else {}
        settings = {"imgsz": options.size, "batch": options.batch, "quantize": BITS[options.openvino], "verbose": False}
        with contextlib.chdir(folder):  # it writes into the working folder
            made = load(options, folder).export(format="openvino", **settings, **more)
        marker.write_text(str(folder / made))
    return YOLO(marker.read_text(), task="classify")


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--openvino", choices=BITS, help="predict by its export to OpenVINO in these numbers")
    options = parser.parse_args()
    torch_utils.NUM_THREADS = options.threads or os.cpu_count() or 1  # by itself it leaves a core to others
    LOGGER.setLevel(logging.ERROR)
    settings = {
        "imgsz": options.size,
        "batch": options.batch,
        "stream": True,
        "save": False,
        "verbose": False,
        "compile": options.compile,
        "device": "0" if contract.device().type == "cuda" else "cpu",
    } | ({"channels_last": True} if options.channels_last else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.kept or name)
        model = exported(options, folder) if options.openvino else load(options, folder)
        predictor = Larger if options.run else None

        def predict(photos: str, output: str) -> int:
            with open(output, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("image", "label", "confidence"))
                images = 0
                for result in model.predict(photos, predictor=predictor, **settings):
                    best = result.probs.top1, f"{float(result.probs.top1conf):.6f}"
                    writer.writerow((Path(result.path).name, *best))
                    images += 1
            return images

        if not options.whole:
            nothing = [np.zeros((options.size, options.size, 3), dtype=np.uint8)] * options.batch
            for _ in model.predict(nothing, predictor=predictor, **settings):
                pass
        contract.time_prediction(predict, options, ("ultralytics", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
