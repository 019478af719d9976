"""Writes what `startup.py`'s contestants load: the same network, by chance initialised, in each one's own format."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import contract
from fieldguide_predict import CLASSES, bundle

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=contract.NETWORKS, default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    import timm
    from safetensors.torch import save_file

    bundle(options.folder, options.network, options.size)
    model = timm.create_model(contract.NETWORKS[options.network], num_classes=CLASSES)
    save_file(model.state_dict(), options.folder / "timm.safetensors")
    try:
        from ultralytics import YOLO
        from ultralytics_train import model_file

        with tempfile.TemporaryDirectory() as folder:
            YOLO(model_file(options.network, Path(folder), classes=CLASSES), task="classify").save("ultralytics.pt")
        shutil.move("ultralytics.pt", options.folder / "ultralytics.pt")
    except (ImportError, SystemExit) as error:  # its contestant is a row that says so
        print(f"no files for Ultralytics: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
