"""Prediction speed of fieldguide and its peers: from JPEG files to a closed CSV.

Usage: python benchmarks/predict.py [--photos PHOTOS] [--run RUN | --network resnet50] [--short]
       python benchmarks/predict.py --photos PHOTOS --run RUN --whole 1 10 100
With RUN, a trained run on photos of 128 px or so, everybody has its network, and is judged on the photos of PHOTOS/val
as well. RUN may hold proven exports in RUN/int8 and RUN/export. With --whole, processes are timed from start to end.
benchmarks/README.md says what is compared, what is timed and why it is fair.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import photos
import side_by_side
from side_by_side import ALLOCATOR, BFLOAT16, HALF, NUMBERS, Contestant, Row

from fieldguide.evaluation.intervals import paired_difference
from fieldguide.model.description import Description, find_bundle, read_description

PLAIN = "torchvision loop, fp32"
AUTOCAST = (*HALF, "--channels-last")
FROZEN = (*(("--bf16-weights",) if BFLOAT16 else ()), "--channels-last", "--compile", "--freeze")
ENGINES = ("int8", "openvino", "folded", "plain")
RAW = {engine: f"{engine} engine alone, random images" for engine in ENGINES}
RAW["auto"] = RAW["openvino"]  # what it takes where OpenVINO is the fastest; the line below the table says who served
OURS, COMMAND = "fieldguide, int8", "fieldguide, the command"
CALIBRATION_PHOTOS = 300


def _ours(engine: str) -> Contestant:
    """With the allocator's settings, as the command sets them for itself."""
    options = ("--engine", engine)
    return Contestant(f"fieldguide, {engine}", "fieldguide_predict.py", options, ALLOCATOR, True, RAW[engine])


CONTESTANTS = (
    Contestant(PLAIN, "torchvision_predict.py"),
    Contestant(f"torchvision loop, channels_last, {NUMBERS}", "torchvision_predict.py", AUTOCAST),
    Contestant(f"torchvision loop, compiled and frozen {NUMBERS}", "torchvision_predict.py", FROZEN),
    Contestant(f"timm, {NUMBERS}", "timm_predict.py", AUTOCAST),
    Contestant(f"timm, {NUMBERS}, compiled", "timm_predict.py", (*AUTOCAST, "--compile")),
    Contestant(f"timm, compiled and frozen {NUMBERS}", "timm_predict.py", FROZEN),
    Contestant("the same with fieldguide's allocator settings", "timm_predict.py", FROZEN, ALLOCATOR),
    Contestant("fastai", "fastai_predict.py", AUTOCAST),
    Contestant("Ultralytics", "ultralytics_predict.py", ("--channels-last",)),
    Contestant("Ultralytics, exported to OpenVINO, fp16", "ultralytics_predict.py", ("--openvino", "fp16")),
    Contestant("Ultralytics, exported to OpenVINO, int8", "ultralytics_predict.py", ("--openvino", "int8")),
    *(_ours(engine) for engine in ("auto", *ENGINES)),
    *(Contestant(RAW[name], "fieldguide_engine.py", ("--engine", name), ALLOCATOR, True) for name in ENGINES),
)
IN_WHOLE = (  # without those that compile for longer than they predict
    *(row for row in CONTESTANTS if not row.is_ours and "compiled" not in row.name and "the same" not in row.name),
    Contestant(COMMAND, "fieldguide_command.py", is_ours=True),
)
IN_SHORT = (
    PLAIN,
    f"timm, compiled and frozen {NUMBERS}",
    "fastai",
    "Ultralytics, exported to OpenVINO, fp16",
    "fieldguide, openvino",
    RAW["openvino"],
)
COLUMNS = (("memory, GB", "private_gb", 2), ("whole process, s", "wall_seconds", 1))
JUDGED_COLUMNS = (("accuracy", "accuracy", 4), ("same class as the first", "same", 4), *COLUMNS)


class Judge:
    """Looks at what a contestant wrote: each photo once, and how many of the labelled ones are right."""

    def __init__(self, images: int, labels: Mapping[str, str], classes: Sequence[str], *, whole: bool) -> None:
        """`labels`: photos to classes, empty where the network is random; `whole`: the whole process counts."""
        self._images, self._labels, self._classes, self._whole = images, labels, classes, whole

    def __call__(self, folder: Path, result: dict[str, object]) -> str:
        """What is wrong with its CSV, or an empty text; adds accuracy to the result."""
        if self._whole:
            result["images_per_second"] = self._images / float(str(result["wall_seconds"]))
        if result.get("synthetic"):
            return ""
        if not (folder / "prediction.csv").exists():
            return "it wrote no CSV"
        rows = _rows(folder / "prediction.csv")
        names = {Path(row[0]).stem for row in rows}
        if not len(rows) == len(names) == self._images:
            return f"{len(rows)} rows, {len(names)} names, {self._images} photos"
        if self._labels and not self._whole:
            said = {Path(name).stem: self._class(label) for name, label, *_ in _rows(folder / "judged.csv")}
            result["predicted"] = [said[name] for name in self._labels]
            result["accuracy"] = sum(said[name] == label for name, label in self._labels.items()) / len(self._labels)
        return ""

    def _class(self, label: str) -> str:
        return self._classes[int(label)] if label.isdigit() else label

    def compare(self, rows: Sequence[Row]) -> list[str]:
        """A table of our int8 against each peer on the same photos; takes the predictions out of the results."""
        said = {row.contestant.name: row.results[0].get("predicted") for row in rows if row.results}
        first, ours = said.get(PLAIN), said.get(OURS)
        lines = ["", f"| `{OURS}` against | times as fast, by round | right only here, only there | accuracy |"]
        lines += ["| --- | --- | --- | --- |"]
        for row in rows:
            for result in row.results:
                predicted = result.pop("predicted", None)
                if predicted and first:
                    result["same"] = sum(map(str.__eq__, predicted, first)) / len(first)
            there = said.get(row.contestant.name)
            if ours and there and row.contestant.name != OURS:
                speeds = _speeds(rows, OURS), _speeds(rows, row.contestant.name)
                ratios = [here / other for here, other in zip(*speeds, strict=False)]
                lines.append(
                    f"| {row.contestant.name} | {min(ratios):.2f} to {max(ratios):.2f} | {self._paired(ours, there)} |"
                )
        return lines if ours else []

    def _paired(self, ours: Sequence[str], theirs: Sequence[str]) -> str:
        labels = list(self._labels.values())
        right = [[said == label for said, label in zip(each, labels, strict=True)] for each in (ours, theirs)]
        only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
        low, high = paired_difference(*only, len(labels))
        difference = 100 * (only[0] - only[1]) / len(labels)
        return f"{only[0]}, {only[1]} | {difference:+.2f} points (95 %: {100 * low:+.2f} to {100 * high:+.2f})"


def _speeds(rows: Sequence[Row], name: str) -> list[float]:
    return next((row.values("images_per_second") for row in rows if row.contestant.name == name), [])


def _rows(file: Path) -> list[list[str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))[1:]


def main() -> None:
    """Prints and saves tables."""
    options = _options()
    described = _described(options.run) if options.run else None
    with tempfile.TemporaryDirectory() as kept:
        sections = [_section(options, images, described, Path(kept)) for images in options.whole or [options.images]]
    command = ["python", "benchmarks/predict.py", *sys.argv[1:]]
    title = "Prediction, from start to end of the process" if options.whole else "Prediction, side by side"
    side_by_side.save(options.output, title, sections, command)


def _described(run: Path) -> Description:
    described = read_description(find_bundle(run))
    own = described.preprocessing
    if own["resize_px"] != round(own["image_size_px"] / 0.875) or own["interpolation"] != "bilinear":
        raise SystemExit(f"{run}: the peers resize to 1 / 0.875 of the image size, bilinear; this run does not")
    return described


def _section(
    options: argparse.Namespace, images: int, described: Description | None, kept: Path
) -> tuple[str, list[str], list[Row]]:
    """The contestants on that many photos; `kept` outlives their processes."""
    size = described.preprocessing["image_size_px"] if described else options.size
    network = described.architecture.backbone if described else options.network
    labels: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("photos", "judged", "calibration"):
            (folder / each).mkdir()
        what = photos.stage_flat(options.photos, folder / "photos", images, options.side)
        batch = min(options.batch, images)  # a fixed batch of an export is never larger than there are photos
        common = ["--photos", str(folder / "photos"), "--network", options.network, "--batch", str(batch)]
        common += ["--size", str(size), "--output", "prediction.csv", "--kept", str(kept / f"{batch}")]
        (kept / f"{batch}").mkdir(exist_ok=True)
        chosen = _chosen(options)
        if any("int8" in contestant.options and not contestant.is_ours for contestant in chosen):
            photos.stage(options.photos, folder / "calibration", CALIBRATION_PHOTOS, 0)
            common += ["--calibration", str(folder / "calibration")]
        if options.run:
            common += ["--run", str(options.run.resolve())]
        if options.whole:
            common.append("--whole")
        elif options.run and options.side is None:
            labels = photos.stage_judged(options.photos, folder / "judged", batch)
            common += ["--judged", str(folder / "judged")]
        judge = Judge(images, labels, described.classes if described else (), whole=bool(options.whole))
        interpreter = side_by_side.python(options.python)
        if options.whole:  # a round that does not count: what is kept is made, and files are read
            side_by_side.run(chosen, common, 1, interpreter, options.timeout, judge)
        rows = side_by_side.run(chosen, common, options.rounds, interpreter, options.timeout, judge)
    compared = judge.compare(rows)
    columns = JUDGED_COLUMNS if labels else COLUMNS
    lines = [*side_by_side.table(rows, PLAIN, columns), *compared, "", f"Rounds: {options.rounds}.{_served(rows)}"]
    if labels:
        lines[-1] += f" Accuracy: of {len(labels)} labelled photos of val/."
    return f"{network}, {size} px, batch {batch}, {what}", lines, rows


def _chosen(options: argparse.Namespace) -> list[Contestant]:
    of_runs = (OURS, RAW["int8"])
    return [
        contestant
        for contestant in (IN_WHOLE if options.whole else CONTESTANTS)
        if (not options.only or any(part in contestant.name for part in options.only))
        and (not options.short or options.only or contestant.name in IN_SHORT)
        and (options.run or contestant.name not in of_runs)
    ]


def _served(rows: Sequence[Row]) -> str:
    """Which engine `auto` took."""
    engines = {str(result["served_by"]) for row in rows if "auto" in row.contestant.name for result in row.results}
    return f" `auto` was served by {' or '.join(sorted(engines))}." if engines else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with train/CLASS; default: made-up photos of 500x375")
    parser.add_argument("--run", type=Path, help="a trained run; default: --network with random weights")
    parser.add_argument("--network", default="resnet50", choices=("resnet34", "resnet50", "resnetrs101"))
    parser.add_argument("--images", type=int, help="photos; must be a multiple of the batch, for compiled networks")
    parser.add_argument("--side", type=int, metavar="PX", help="enlarge photos to this longer side, without accuracy")
    parser.add_argument("--whole", type=int, nargs="+", metavar="IMAGES", help="time whole processes on so many photos")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", nargs="+", metavar="PART", help="only contestants whose name contains one of these")
    parser.add_argument("--timeout", type=int, default=1800, metavar="SECONDS", help="time limit for one run")
    parser.add_argument("--python", help="the interpreter; default: that of `make bench-env`")
    parser.add_argument("--output", type=Path, default=None, metavar="STEM", help="writes STEM.md and STEM.json")
    parser.add_argument("--short", action="store_true", help="few photos and contestants, one round: a few minutes")
    options = parser.parse_args()
    short = options.short
    options.images = options.images or (128 if short else 2048)
    options.rounds = options.rounds or (1 if short else 3)
    options.output = options.output or side_by_side.HERE / "results" / ("predict-short" if short else "predict")
    if not options.whole and options.images % options.batch:
        parser.error(f"--images {options.images}: must be a multiple of --batch {options.batch}")
    if options.whole and not options.run:
        parser.error("--whole: needs --run")
    return options


if __name__ == "__main__":
    main()
