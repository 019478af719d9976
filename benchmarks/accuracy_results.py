"""The results of `accuracy.py`: one line of JSON per run, appended at once and read again to continue.

The first line, of kind `setting`, says what all runs have in common, and lists the files of val/ with their classes in
the order of every run's predictions. Then come lines of kind `calibration`, `run` and `failure`.
"""

import csv
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CALIBRATION_SEED = 1_000  # of an epoch that is not counted
Line = dict[str, object]
Cell = tuple[str, float | None, int]  # method, minutes or None for one that ends by itself, seed


class Results:
    """A file of results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = _read(path)

    @property
    def setting(self) -> Line:
        """What all runs have in common."""
        if not self.lines:
            raise SystemExit(f"{self.path}: no results")
        return self.lines[0]

    def begin(self, setting: Mapping[str, object]) -> None:
        """Writes the setting, or holds it against the one that the file has.

        Raises:
            SystemExit: the file's runs were made in another setting; says in what it differs.
        """
        if not self.lines:
            self.append("setting", setting)
            return
        differing = [name for name, value in setting.items() if self.lines[0].get(name) != value]
        if differing:
            told = ", ".join(
                name if name == "photos" else f"{name} was {self.lines[0].get(name)} and is {setting[name]}"
                for name in differing
            )
            raise SystemExit(f"{self.path} has results of another setting ({told}); pass another file with --results")

    def append(self, kind: str, values: Mapping[str, object]) -> None:
        """Adds a line, on the disk when this returns."""
        line = {"kind": kind, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_half_a_line(self.path)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)

    def runs(self) -> dict[Cell, Line]:
        """Every finished run."""
        return {_cell(line): line for line in self.lines if line["kind"] == "run"}

    def failures(self) -> dict[Cell, str]:
        """Why a run or a calibration failed, for all that were not finished since."""
        runs = self.runs().keys()
        runs |= {(line["method"], None, CALIBRATION_SEED) for line in self.lines if line["kind"] == "calibration"}
        return {
            _cell(line): str(line["why"])
            for line in self.lines
            if line["kind"] == "failure" and _cell(line) not in runs
        }

    def calibration(self, method: str) -> Line | None:
        """What a method's calibration said; None if it has none yet."""
        return next((i for i in self.lines if i["kind"] == "calibration" and i["method"] == method), None)


def _cell(line: Mapping[str, object]) -> Cell:
    return line["method"], line["minutes"], line["seed"]


def _read(path: Path) -> list[Line]:
    """All whole lines; the last one may be half written, and then is not there."""
    if not path.exists():
        return []
    lines = []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    for number, text in enumerate(whole, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise SystemExit(f"{path}, line {number}: not JSON ({error}); delete this line") from None
    if rest:
        print(f"{path}: the last line is cut off and ignored", file=sys.stderr)
    if lines and lines[0].get("kind") != "setting":
        raise SystemExit(f"{path}: not a results file of accuracy.py (its first line is not a setting)")
    return lines


def _drop_half_a_line(path: Path) -> None:
    if not path.exists():
        return
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def look(photos: Path, weights: Path) -> dict[str, object]:
    """The part of a setting that comes from the files: names and classes of val/, checksums.

    Raises:
        SystemExit: there is no such folder or file, or nothing in it.
    """
    files = sorted(file.relative_to(photos / "val").as_posix() for file in (photos / "val").glob("*/*"))
    train = sum(1 for file in (photos / "train").glob("*/*") if file.is_file())
    if not files or not train:
        raise SystemExit(f"--photos {photos}: must contain train/CLASS/ and val/CLASS/")
    if not weights.is_file():
        raise SystemExit(f"--weights {weights}: no such file")
    return {
        "photos": {"train": train, "files": files, "classes": [file.split("/")[0] for file in files]},
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def read_csv(file: Path, photos: Mapping[str, Sequence[str]]) -> list[str]:
    """The predicted classes in the order of the setting's files.

    Raises:
        ValueError: a photo is missing, there twice or unknown, or its class is not that of its folder; says how many.
    """
    truth = dict(zip(photos["files"], photos["classes"], strict=True))
    with open(file, newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    predicted = {row["file"]: row["predicted"] for row in rows}
    if len(rows) != len(predicted) or predicted.keys() != truth.keys():
        missing, more = len(truth.keys() - predicted.keys()), len(predicted.keys() - truth.keys())
        twice = len(rows) - len(predicted)
        raise ValueError(f"its CSV lacks {missing} photos of val/, has {more} others, and {twice} more than once")
    wrong = sum(truth[row["file"]] != row["true"] for row in rows)
    if wrong:
        raise ValueError(f"its CSV has another true class than the folder for {wrong} photos")
    unknown = set(predicted.values()) - set(truth.values())
    if unknown:
        raise ValueError(f"its CSV predicts classes that are no folder of val/, such as {min(unknown)}")
    return [predicted[name] for name in photos["files"]]
