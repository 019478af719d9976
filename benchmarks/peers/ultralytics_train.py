"""Ultralytics' classification trainer on a torchvision network, through its own model file and settings.

On a CPU Ultralytics trains in fp32 and NCHW and reads photos in the training process, whatever it is told; what is left
to choose is its compile and its cache of decoded photos. Ultralytics is AGPL: it lives in this environment alone.
"""

import logging
import os
import tempfile
from pathlib import Path

import contract
import yaml

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # its settings file stays out of the home folder

from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.utils import LOGGER, torch_utils

CHANNELS = {"resnet34": 512, "resnet50": 2048}


def model_file(network: str, folder: Path, classes: int = 2) -> str:
    """A torchvision network without its head, then Ultralytics' head; the way of its own yolo11-cls-resnet18.yaml."""
    if network not in CHANNELS:
        raise SystemExit(f"torchvision has no {network}, and Ultralytics trains only its networks")
    described = {
        "nc": classes,
        "backbone": [[-1, 1, "TorchVision", [CHANNELS[network], network, None, True, 2]]],
        "head": [[-1, 1, "Classify", ["nc"]]],
    }
    file = folder / f"{network}-cls.yaml"
    file.write_text(yaml.safe_dump(described))
    return str(file)


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--cache", action="store_true", help="cache decoded photos in memory")
    options = parser.parse_args()
    torch_utils.NUM_THREADS = options.threads or os.cpu_count() or 1  # by itself it leaves a core to others
    LOGGER.setLevel(logging.ERROR)
    watch = contract.Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = ClassificationTrainer(
            overrides={
                "model": model_file(options.network, Path(folder)),
                "data": options.photos,
                "epochs": options.epochs,
                "imgsz": options.size,
                "batch": options.batch,
                "nbs": options.batch,  # an update a batch, as everybody
                "workers": options.workers,
                "optimizer": "Adam",
                "lr0": 1e-3,
                "pretrained": False,
                "amp": False,
                "compile": options.compile,
                "cache": "ram" if options.cache else False,
                "scale": 0.92,
                "fliplr": 0.5,
                "hsv_h": 0.1,
                "hsv_s": 0.1,
                "hsv_v": 0.1,
                "auto_augment": None,
                "erasing": 0.0,
                "val": False,
                "plots": False,
                "save": False,
                "verbose": False,
                "project": folder,
                "device": "0" if contract.device().type == "cuda" else "cpu",
            }
        )
        trainer.add_callback("on_train_epoch_start", lambda _: watch.start())
        trainer.add_callback("on_train_epoch_end", lambda _: watch.stop())
        trainer.train()
        images = len(trainer.train_loader) * options.batch
    contract.report_training(watch, images, ("ultralytics", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
