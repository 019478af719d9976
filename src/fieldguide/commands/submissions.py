"""The test photos of an experiment: evaluated if they have classes, else predicted for a leaderboard and its scores."""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldguide.commands.evaluate import evaluate
from fieldguide.commands.judging.prediction_options import demand_different_rows
from fieldguide.commands.predict import predict
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.experiment_folder import SUBMISSIONS
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.data.split.partition import Split
from fieldguide.deploy.rows import heading, stem, write_rows
from fieldguide.errors import UsageError, counted
from fieldguide.model.description import find_bundle, read_description
from fieldguide.storage import csv_line, read_json, read_text, write_json

KEPT = "kept.json"  # what was made of which weights, and the scores
COLUMNS = ("method", "score")


def wants_test(judged: Mapping[str, Any] | None, prepared: Prepared, screen: Screen) -> bool:
    """Whether test photos exist without a figure, or with one from other photos; old results name no photos."""
    if not prepared.folder.test_is_labelled or judged is None:
        return prepared.folder.test_is_labelled
    if judged.get("photos_sha256") in (None, _fingerprint(prepared)):
        return False
    screen.warn("the test photos have changed; evaluating again")
    return True


def evaluate_test(run: Path, prepared: Prepared, device: str, screen: Screen) -> None:
    """Judges a run on labelled test photos; the figures stay in the run."""
    source = prepared.folder.asked_for
    told: Any = {"photos_folder": source.photos, "columns": source.columns}
    found = evaluate(run, source.path, part="test", device=device, quiet=True, **told)
    for remark in found.not_kept:
        screen.warn(remark)


def _fingerprint(prepared: Prepared) -> str:
    tested = {photo.file for photo in prepared.folder.part("test")}  # also those that a recipe leaves out
    rows = tuple(replace(row, part="test") for row in prepared.split.rows if row.file in tested)
    return Split(rows).fingerprint(("test",))


def read_scores(path: str | Path | None, names: Collection[str]) -> dict[str, float]:
    """The scores of a CSV with the columns `method` and `score`, by method; none without a file.

    Raises:
        UsageError: all that is wrong with it: it cannot be read, a method is unknown or there twice, a score is not in
            [0, 1].
    """
    if path is None:
        return {}
    what, found, problems = f"--test-scores {path}", dict[str, float](), list[str]()
    try:
        text = read_text(Path(path)).removeprefix("\ufeff")
    except OSError as error:
        raise UsageError(f"{what}: cannot be read ({error.strerror})") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
        raise UsageError(f"{what}: the first line has no {' and no '.join(missing)}; write method,score")
    for row in rows:
        line, method = f"{what}: line {rows.line_num}", row["method"]
        score = _score(row["score"])
        if method not in names:
            problems.append(f"{line}: there is no method {method}; the methods are {', '.join(names)}")
        elif method in found:
            problems.append(f"{line}: {method} is there twice")
        elif score is None:
            problems.append(f"{line}: the score {row['score']} is not between 0 and 1; write 0.93 for 93 %")
        else:
            found[method] = score
    if problems:
        raise UsageError(*problems)
    return found


def _score(text: str | None) -> float | None:
    try:
        score = float(text or "")
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


@dataclass
class Submissions:
    """`NAME.csv` and `NAME.zip` for each method; made again only for other weights or other photos."""

    folder: Path  # of the experiment
    prepared: Prepared
    device: str
    screen: Screen
    given: Mapping[str, float]  # scores of this call, by method
    _kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self._place / KEPT
        found = read_json(path) if path.exists() else {}
        self._kept = {key: found.get(key) or {} for key in ("made", "scores")} if isinstance(found, dict) else {}
        self._kept = self._kept or {"made": {}, "scores": {}}

    @property
    def _place(self) -> Path:
        return self.folder / SUBMISSIONS

    def add(self, name: str, run: Path) -> None:
        """Predicts the flat test photos with a run, if there are any, and keeps its score."""
        weights = read_description(find_bundle(run)).weights_sha256
        if self._is_flat:
            self._predict(name, run, weights)
        if name in self.given:
            self._kept["scores"][name] = {"score": self.given[name], "weights_sha256": weights}
        elif name in self._kept["scores"] and self._kept["scores"][name].get("weights_sha256") != weights:
            del self._kept["scores"][name]
            self.screen.warn(f"{name}: the model has changed, so its score is left out of the table")
        if self._kept["made"] or self._kept["scores"]:
            self._place.mkdir(exist_ok=True)
            write_json(self._place / KEPT, self._kept)

    def score(self, name: str) -> float | None:
        """The leaderboard's score of a method, of this call or an earlier one."""
        found = self._kept["scores"].get(name)
        return None if found is None else float(found["score"])

    @property
    def _is_flat(self) -> bool:
        folder = self.prepared.folder
        return bool(folder.part("test")) and not folder.test_is_labelled

    def _predict(self, name: str, run: Path, weights: str) -> None:
        table, submission = self._place / f"{name}.csv", self._place / f"{name}.zip"
        made = {"weights_sha256": weights, "photos_sha256": _fingerprint(self.prepared)}
        if self._kept["made"].get(name) == made and table.exists():
            return
        self._place.mkdir(exist_ok=True)
        found = predict(run, self._images(), table, device=self.device, engine="plain", quiet=True)
        if found.failed:
            what = f"{name}: {counted(len(found.failed), 'test photo')} could not be read"
            self.screen.warn(f"{what}; see the status column of {table}")
        written = str(table)
        try:
            write_submission(table, submission)
        except UsageError as error:
            submission.unlink(missing_ok=True)
            self.screen.warn(f"{name}: no {submission.name}: {error}")
        else:
            written += f", {submission}"
        self._kept["made"][name] = made
        self.screen.say(f"{counted(found.images, 'test photo')} without labels: {written}")

    def _images(self) -> list[Path]:
        """The folder of test photos; or each photo, where a table says which they are."""
        folder, photos = self.prepared.folder, self.prepared.folder.part("test")
        if folder.has_parts:
            return [folder.root / photos[0].file.partition("/")[0]]
        return [photo.path for photo in photos]


def write_submission(table: Path, submission: Path) -> None:
    """Writes the submission that the predictions of a CSV are; raises UsageError if two photos share a name."""
    rows = list(csv.DictReader(io.StringIO(read_text(table), newline="")))
    demand_different_rows([(row["image"], row["image"]) for row in rows], "submission")
    lines = [csv_line((stem(row["image"]), row["label"])) for row in rows]
    write_rows(submission, [heading("submission", 1), *lines])
