"""What averaging a photo and its mirror image gains, on existing runs.

Usage: python benchmarks/views.py RUN [RUN ...] --photos PHOTOS
The plain model of each run judges the run's validation photos twice, with one view of a photo and with two. The log
loss uses a temperature that is cross-fitted for that view. Then each run with two views is compared with the run
before it, photo by photo. The runs do not change.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from fieldguide.commands.judging.judge import judge_photos
from fieldguide.data.split.partition import read_split
from fieldguide.deploy.predictor import load_predictor
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.comparison import compare_predictions
from fieldguide.evaluation.predictions import Predictions
from fieldguide.model.bundle import write_preprocessing
from fieldguide.model.description import read_description
from fieldguide.run_folder import RunFolder

VIEWS = {"none": "one view", "horizontal": "two views"}


def judged(run: RunFolder, photos: Path, flips: str) -> Predictions:
    """What a run's model says of its validation photos, with other flips than its own."""
    rows = read_split(run.split).part("val")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(run.bundle, Path(folder) / "bundle"))
        write_preprocessing(bundle, {**read_description(bundle).preprocessing, "flips": flips})
        predictor = load_predictor(bundle, "auto")
        return judge_photos(predictor, rows, {row.file: photos / row.file for row in rows}).predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--photos", type=Path, required=True, help="the folder that the runs were trained on")
    options = parser.parse_args()
    print("| run | one view | log loss | two views | log loss |\n| --- | ---: | ---: | ---: | ---: |")
    before: tuple[str, Predictions] | None = None
    told = []
    for path in options.runs:
        by_flips = {flips: judged(RunFolder(path), options.photos, flips) for flips in VIEWS}
        cells = [path.name]
        for said in by_flips.values():
            loss = calibration_summary(said.logits, said.labels)["log_loss_after"]
            cells += [f"{(said.predicted() == said.labels).mean():.4f}", f"{loss:.4f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        one, two = by_flips.values()
        told.append(compare_predictions(two, one).sentence(f"{path.name} by two views", f"{path.name} by one"))
        if before is not None:
            told.append(compare_predictions(two, before[1]).sentence(path.name, f"{before[0]} (both by two views)"))
        before = (path.name, two)
    print("", *told, sep="\n")


if __name__ == "__main__":
    main()
