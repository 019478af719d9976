"""Seconds from the start of a command to its end, for fieldguide and its peers, and the cost of imports.

Usage: python benchmarks/startup.py [--photos PHOTOS] [--network resnet50] [--short]
Each contestant is a process, timed from start to end, with files and bytecode read before, so the disk costs nobody
time. A round runs all of them; every second round runs in the opposite order; figures are medians. Below the table: the
seconds to import each library's own modules, from one more run each with `python -X importtime`, which makes the start
slightly slower.
"""

import argparse
import csv
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import children
import photos
import side_by_side
from side_by_side import Contestant, Row

FLOOR = "python -c 'import torch'"
PREDICT = "fieldguide predict, one photo to CSV"
STARTS: dict[str, tuple[str, ...]] = {  # name: what follows the interpreter; {} is the folder with model and photo
    "python -c pass": ("-c", "pass"),
    FLOOR: ("-c", "import torch"),
    "fieldguide --help": ("-m", "fieldguide", "--help"),
    "fieldguide recipes": ("-m", "fieldguide", "recipes"),
    PREDICT: ("-m", "fieldguide", "predict", "{}/bundle", "{}/photo.jpg", "-o", "{}/out.csv"),
    "timm, the least script that does the same": (
        str(side_by_side.HERE / "peers/timm_start.py"),
        *("{}/timm.safetensors", "{network}", "{}/photo.jpg", "{}/out.csv"),
    ),
    "Ultralytics, the same": (
        str(side_by_side.HERE / "peers/ultralytics_start.py"),
        *("{}/ultralytics.pt", "{size}", "{}/photo.jpg", "{}/out.csv"),
    ),
}
TAKEN_APART = ("fieldguide --help", "fieldguide recipes", PREDICT, "timm, the least script that does the same")
LIBRARIES = ("fieldguide", "torch", "torchvision", "timm", "ultralytics", "pydantic", "typer")
LARGEST, LEAST_SECONDS = 8, 0.005
PYTHONS_OWN = ("sitecustomize", "usercustomize", "_distutils_hack", *sys.stdlib_module_names)
IMPORTED = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)\s*$", re.MULTILINE)


def main() -> None:
    """Prints and saves a table."""
    options = _options()
    interpreter = side_by_side.python(options.python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _lay_out(options, folder, interpreter)
        rows = _rounds(options, folder, interpreter)
        imports = [_imports(start, options, folder, interpreter) for start in TAKEN_APART]
    lines = [*_table(rows), "", f"Rounds: {options.rounds}.", "", *imports]
    command = ["python", "benchmarks/startup.py", *sys.argv[1:]]
    heading = f"{options.network}, {options.size} px, seconds from start to end"
    side_by_side.save(options.output, "Starting", [(heading, lines, rows)], command)


def _lay_out(options: argparse.Namespace, folder: Path, interpreter: str) -> None:
    """Model files and a photo, for everybody the same."""
    (folder / "photos").mkdir()
    photos.stage_flat(options.photos, folder / "photos", 1)
    next((folder / "photos").iterdir()).rename(folder / "photo.jpg")
    script = str(side_by_side.HERE / "peers/start_files.py")
    ended = children.run(
        [interpreter, script, str(folder), "--network", options.network, "--size", str(options.size)], folder, 300
    )
    if ended.failure:
        raise SystemExit(f"no model files: {ended.failure}")


def _command(start: str, options: argparse.Namespace, folder: Path) -> list[str]:
    return [part.format(folder, network=options.network, size=options.size) for part in STARTS[start]]


def _rounds(options: argparse.Namespace, folder: Path, interpreter: str) -> list[Row]:
    """Every start once a round, after one round that is not counted."""
    rows = [Row(Contestant(start, "", is_ours=start.startswith("fieldguide"))) for start in STARTS]
    versions = _versions(interpreter, folder)
    for number in range(options.rounds + 1):
        for row in rows if number % 2 == 0 else reversed(rows):
            if row.failure:
                continue
            output = folder / "out.csv"
            output.unlink(missing_ok=True)
            command = _command(row.contestant.name, options, folder)
            ended = children.run([interpreter, *command], folder, options.timeout)
            row.failure = ended.failure or _problem(command, output)
            if number and not row.failure:
                figures = {"wall_seconds": ended.wall_seconds, "other_cores": ended.other_cores}
                row.results.append({**figures, "versions": versions})
            said = row.failure or f"{ended.wall_seconds:.2f} s"
            print(f"round {number} of {options.rounds}: {row.contestant.name} ... {said}", file=sys.stderr)
    return rows


def _versions(interpreter: str, folder: Path) -> dict[str, str]:
    """Of what that interpreter has of these."""
    asked = (
        "from importlib.metadata import distributions\nfor d in distributions(): print(str(d.name).lower(), d.version)"
    )
    ended = children.run([interpreter, "-c", asked], folder, 60)
    found = dict(line.split(" ") for line in ended.output.splitlines())
    return {name: found[name] for name in LIBRARIES if name in found}


def _problem(command: Sequence[str], output: Path) -> str:
    """What is wrong with what was written: a heading and one row, where a CSV was asked for."""
    if str(output) not in command:
        return ""
    if not output.exists():
        return "could not run: it wrote no CSV"
    with open(output, newline="", encoding="utf-8") as opened:
        rows = list(csv.reader(opened))
    return "" if len(rows) == 2 and rows[1][0].endswith("photo.jpg") else f"could not run: {len(rows)} lines of CSV"


def _table(rows: Sequence[Row]) -> list[str]:
    floor = next(row.median("wall_seconds") for row in rows if row.contestant.name == FLOOR)
    lines = [f"| what | seconds | range | / {FLOOR} |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        median, values = row.median("wall_seconds"), row.values("wall_seconds")
        if median is None:
            lines.append(f"| {row.contestant.name} | {row.failure} | | |")
            continue
        ratio = f"{median / floor:.2f}" if floor else ""
        lines.append(f"| {row.contestant.name} | {median:.2f} | {min(values):.2f} to {max(values):.2f} | {ratio} |")
    return lines


def _imports(start: str, options: argparse.Namespace, folder: Path, interpreter: str) -> str:
    """A sentence: the libraries that a start imports for longest.

    `fieldguide predict` starts itself a second time, with its allocator's settings; both starts are counted.
    """
    ended = children.run([interpreter, "-X", "importtime", *_command(start, options, folder)], folder, options.timeout)
    if ended.failure:
        return f"- {start}: {ended.failure}"
    libraries = _by_library(ended.complaint)
    shown = [(library, seconds) for library, seconds in libraries.most_common(LARGEST) if seconds >= LEAST_SECONDS]
    largest = ", ".join(f"{library} {seconds:.2f}" for library, seconds in shown)
    return f"- {start}: imports take {libraries.total():.2f} s of {ended.wall_seconds:.2f} s; {largest}"


def _by_library(complaint: str) -> Counter[str]:
    """Library to seconds of its modules' own code, Python's own modules together."""
    libraries: Counter[str] = Counter()
    for microseconds, module in IMPORTED.findall(complaint):
        first = module.partition(".")[0]
        name = "Python's own" if first in PYTHONS_OWN else first
        libraries[name] += int(microseconds) / 1e6
    return libraries


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with train/CLASS; default: one made-up photo of 500x375")
    parser.add_argument("--network", default="resnet50", choices=("resnet34", "resnet50"))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, help="rounds that count; one more runs before them")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS", help="time limit for one run")
    parser.add_argument("--python", help="the interpreter; default: that of `make bench-env`")
    parser.add_argument("--output", type=Path, default=None, metavar="STEM", help="writes STEM.md and STEM.json")
    parser.add_argument("--short", action="store_true", help="only one round that counts: one minute")
    options = parser.parse_args()
    short = options.short
    options.rounds = options.rounds or (1 if short else 5)
    options.output = options.output or side_by_side.HERE / "results" / ("startup-short" if short else "startup")
    return options


if __name__ == "__main__":
    main()
