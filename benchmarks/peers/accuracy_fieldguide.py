"""fieldguide's own command, `fieldguide train`, as a user types it; its figures on val/ from the run that it made.

The command has a cache folder of its own, empty each time: nothing of a run before makes it faster. What the model says
about val/ is what the command itself wrote (`predictions.npz`), inside its time. If time ended before all of val/ was
judged, `fieldguide predict` says the rest afterwards, as each peer predicts val/ outside of its time.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import accuracy_contract as contract

from fieldguide.evaluation.predictions import read_predictions
from fieldguide.run_folder import RunFolder


def said_later(
    run: Path, folder: Path, files: list[Path], scratch: Path, environment: dict[str, str]
) -> dict[Path, str]:
    """The classes that `fieldguide predict` gives to files of a folder."""
    listed, made = scratch / "rest.txt", scratch / "rest.csv"
    listed.write_text("".join(f"{folder / file}\n" for file in files), encoding="utf-8")
    command = [sys.executable, "-m", "fieldguide", "predict", str(run), str(listed), "-o", str(made)]
    subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
    with open(made, newline="", encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened) if row["status"] == "ok"]
    return {Path(row["image"]).relative_to(folder): row["label"] for row in rows}


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--minutes", type=float, help="default: the recipe ends by itself")
    parser.add_argument("--recipe", help="default: that of the command")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(options.keep or Path(folder) / "run")
        command = [sys.executable, "-m", "fieldguide", "train", str(options.photos), "-o", str(run.path)]
        command += ["--weights", str(options.weights)]
        if options.minutes is not None:
            command += ["--minutes", f"{options.minutes:g}"]
        if options.recipe:
            command += ["--recipe", options.recipe]
        fields = [f"model.backbone={options.backbone}", f"data.image_size_px={options.size}"]
        for setting in (*fields, f"training.seed={options.seed}", *options.set):
            command += ["--set", setting]
        environment = os.environ | {"FIELDGUIDE_CACHE": str(Path(folder) / "cache")}
        asked = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(asked.stderr)
        if asked.returncode:
            raise SystemExit(asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else "no error message")
        began = time.perf_counter()
        said, history, result = read_predictions(run.predictions), run.read_history(), run.read_result()
        parts = [Path(file).parts for file in said.files]
        files = [Path(*part[1:]) if part[0] == "val" else Path(*part) for part in parts]
        predicted = dict(zip(files, (said.classes[place] for place in said.predicted().tolist()), strict=True))
        folder_of_val = options.photos / "val"
        rest = sorted({file.relative_to(folder_of_val) for file in folder_of_val.glob("*/*")} - set(predicted))
        if rest:
            predicted |= said_later(run.path, folder_of_val, rest, Path(folder), environment)
        contract.write(options.output, list(predicted), list(predicted.values()), options.photos)
        seconds = time.perf_counter() - began
        contract.report(
            [epoch["seconds"] for epoch in history],
            seconds,
            ("fieldguide", "timm", "torchvision", "pillow"),
            validation_accuracy=result["validation"]["accuracy"],
            validation_log_loss=result["calibration"]["log_loss_after"],
            judged_in_time=len(predicted) - len(rest),
            recipe=run.recipe.read_text(encoding="utf-8"),
        )


if __name__ == "__main__":
    main()
