"""What averaging the probabilities of several runs gains over each of them, on existing runs.

Usage: python benchmarks/ensemble.py RUN RUN [RUN ...] --photos PHOTOS
The plain models judge the validation photos of the runs, which must share their split. All temperatures were fitted on
these photos, so every log loss is slightly too low, equally for all. The ensemble is compared with each run, photo by
photo.
"""

import argparse
from pathlib import Path

import numpy as np

from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.judging.models import split_of
from fieldguide.deploy.ensemble import Ensemble
from fieldguide.deploy.predictor import load_predictor
from fieldguide.evaluation.calibration import log_loss
from fieldguide.evaluation.comparison import compare_predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--photos", type=Path, required=True, help="the folder that the runs were trained on")
    options = parser.parse_args()
    splits = [split_of(path) for path in options.runs]
    if len(splits) < 2 or None in splits or any(split != splits[0] for split in splits):
        parser.error("two or more runs of the same split are wanted, each with the split beside it")
    rows = splits[0].part("val")
    paths = {row.file: options.photos / row.file for row in rows}
    members = [load_predictor(path) for path in options.runs]
    names = [path.name for path in options.runs]
    print("| run | accuracy | log loss |\n| --- | ---: | ---: |")
    found = {}
    for name, predictor in [*zip(names, members, strict=True), ("together", Ensemble(members, names))]:
        said = found[name] = judge_photos(predictor, rows, paths).predictions
        loss = log_loss(said.logits.astype(np.float64) / predictor.temperature, said.labels)
        print(f"| {name} | {(said.predicted() == said.labels).mean():.4f} | {loss:.4f} |", flush=True)
    print(
        "",
        *(compare_predictions(found["together"], found[name]).sentence("together", name) for name in names),
        sep="\n",
    )


if __name__ == "__main__":
    main()
