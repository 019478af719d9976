"""Ultralytics' predict on a torchvision network, in batches and as a stream.

As it is, fp32 on a CPU, with its own compile; with --openvino by its own export to OpenVINO, which computes in bf16
where the processor does so natively.
"""

import csv
import logging
import os
import tempfile
from pathlib import Path

import contract

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # its settings file stays out of the home folder
os.environ["YOLO_AUTOINSTALL"] = "false"

import numpy as np
from ultralytics import YOLO
from ultralytics.utils import LOGGER, torch_utils
from ultralytics_train import model_file


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--openvino", action="store_true", help="predict by its export to OpenVINO")
    options = parser.parse_args()
    torch_utils.NUM_THREADS = options.threads or os.cpu_count() or 1  # by itself it leaves a core to others
    LOGGER.setLevel(logging.ERROR)
    watch = contract.Stopwatch()
    settings = {
        "imgsz": options.size,
        "batch": options.batch,
        "stream": True,
        "save": False,
        "verbose": False,
        "compile": options.compile,
        "device": "0" if contract.device().type == "cuda" else "cpu",
    } | ({"channels_last": True} if options.channels_last else {})
    with tempfile.TemporaryDirectory() as folder:
        model = YOLO(model_file(options.network, Path(folder), classes=1000), task="classify")
        if options.openvino:
            exported = model.export(format="openvino", imgsz=options.size, batch=options.batch, verbose=False)
            model = YOLO(exported, task="classify")
        nothing = [np.zeros((options.size, options.size, 3), dtype=np.uint8)] * options.batch
        for _ in model.predict(nothing, **settings):
            pass
        with watch.running(), open(options.output, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "label", "confidence"))
            images = 0
            for result in model.predict(options.photos, **settings):
                writer.writerow((Path(result.path).name, result.probs.top1, f"{float(result.probs.top1conf):.6f}"))
                images += 1
    contract.report_prediction(watch, images, ("ultralytics", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
