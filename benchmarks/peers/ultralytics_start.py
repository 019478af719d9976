"""The least that predicts one photo with Ultralytics, from its file to a CSV: MODEL SIZE PHOTO OUTPUT."""

import csv
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # its settings file stays out of the home folder

from ultralytics import YOLO


def main() -> None:
    model, size, photo, output = sys.argv[1:]
    (result,) = YOLO(model, task="classify").predict(photo, imgsz=int(size), device="cpu", save=False, verbose=False)
    with open(output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "confidence"))
        writer.writerow((Path(photo).name, result.probs.top1, f"{float(result.probs.top1conf):.6f}"))


if __name__ == "__main__":
    main()
