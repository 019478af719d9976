"""The files of a run. No other file knows their names."""

import contextlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide import locks
from fieldguide.errors import UsageError
from fieldguide.result_format import as_now, is_spoilt
from fieldguide.storage import LOCK, is_empty, is_there, read_json, remove_half_written, write_json, write_text


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds all that a training made."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, which trains again as it is."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Machine and versions."""
        return self.path / "environment.json"

    @property
    def split(self) -> Path:
        """Which photo is in which part."""
        return self.path / "split.csv"

    @property
    def seen_before(self) -> Path:
        """Contents that its first weights were trained on; only where these came from an earlier run."""
        return self.path / "seen_before.txt"

    @property
    def history(self) -> Path:
        """One line per epoch."""
        return self.path / "history.jsonl"

    @property
    def result(self) -> Path:
        """The figures at the end."""
        return self.path / "result.json"

    @property
    def request(self) -> Path:
        """What is needed to resume it: the photos' folder, the recipe as it was, checksums."""
        return self.path / "resume.json"

    @property
    def checkpoints(self) -> Path:
        """The last two checkpoints."""
        return self.path / "checkpoint"

    @property
    def bundle(self) -> Path:
        """All that is needed to use the model."""
        return self.path / "bundle"

    @property
    def figures(self) -> Path:
        """The curves."""
        return self.path / "figures"

    @property
    def predictions(self) -> Path:
        """The logits of each validation photo."""
        return self.path / "predictions.npz"

    @property
    def gallery(self) -> Path:
        """Thumbnails and class-activation maps of the photos that the report shows."""
        return self.path / "gallery"

    @property
    def gallery_index(self) -> Path:
        """Which photo of the gallery is shown where, and why."""
        return self.gallery / "index.json"

    @property
    def label_errors(self) -> Path:
        """Likely label errors, with a column to correct them in."""
        return self.path / "label_errors.csv"

    @property
    def check(self) -> Path:
        """What `check` found in the photos; not every run has it."""
        return self.path / "check.json"

    @property
    def report(self) -> Path:
        """The page that shows all this."""
        return self.path / "report.html"

    @property
    def failed(self) -> Path:
        """For an experiment's trial without a model: why it would fail again."""
        return self.path / "failed.txt"

    @property
    def counting(self) -> Path:
        """A lock, present only while an evaluation on test photos is counted."""
        return self.path / ".counting.lock"

    @property
    def int8(self) -> Path:
        """An export for OpenVINO with a file in int8, which `predict` may use; put there by `export`."""
        return self.path / "int8"

    @property
    def export(self) -> Path:
        """An export that `predict` may use for a few photos; put there by `export`."""
        return self.path / "export"

    @property
    def folds(self) -> Path:
        """Of a cross-validation: which fold holds out which photo."""
        return self.path / "folds.csv"

    @property
    def out_of_fold(self) -> Path:
        """Of a cross-validation: the prediction for each photo by the model that never saw it."""
        return self.path / "out_of_fold.csv"

    @property
    def out_of_fold_logits(self) -> Path:
        """The same with the logits of every class."""
        return self.path / "out_of_fold.npz"

    def fold(self, number: int) -> "RunFolder":
        """Of a cross-validation: the run of one fold, counted from 1."""
        return RunFolder(self.path / f"fold-{number}")

    def owns(self, name: str) -> bool:
        """Whether this is a run, and `name` names a file or folder that a training writes into it, now or later.

        A fold of a cross-validation does not count: it is a run of its own.
        """
        if not any(file.is_file() for file in (self.recipe, self.request, self.result)):
            return False
        own = (
            *(self.recipe, self.environment, self.split, self.history, self.result, self.request, self.checkpoints),
            *(self.bundle, self.figures, self.predictions, self.gallery, self.label_errors, self.check, self.report),
            *(self.folds, self.out_of_fold, self.out_of_fold_logits, self.seen_before, self.counting, self.path / LOCK),
            self.failed,
        )
        return name in {path.name for path in own} or name.startswith(("result.before-", "report.before-"))

    def problem_with_making(self) -> str | None:
        """Why the folder cannot take a new run; None if it can."""
        try:
            return self._problem_with_making()
        except OSError as error:  # a name that is too long, a folder that cannot be entered
            return f"-o {self.path}: cannot be read ({error.strerror or error})"

    def _problem_with_making(self) -> str | None:
        if not self.path.exists() and not self.path.is_symlink():
            return None
        if not self.path.is_dir():
            return f"-o {self.path}: is a file; choose another name for the run's folder"
        if is_empty(self.path):
            return None
        if self.can_go_on and not self.is_finished:
            return f"-o {self.path}: holds an unfinished run; resume it: {self.command_to_go_on()}"
        what = "holds a run already" if self.recipe.exists() else "exists and is not empty"
        return f"-o {self.path}: {what}, and nothing is overwritten; choose another folder, or move this one away"

    @property
    def can_go_on(self) -> bool:
        """Whether it holds what is needed to resume it."""
        return is_there(self.request)

    @property
    def is_finished(self) -> bool:
        """Whether its training ended by itself."""
        return is_there(self.result) and self.read_result()["stopped"] is None

    def command_to_go_on(self) -> str:
        """What to type."""
        return f"fieldguide train --resume {shlex.quote(str(self.path))}"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder, keeps other processes out of it, and cleans up after one that was killed.

        Raises:
            UsageError: another process is using this run.
            OSError: the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locks.held(self.path / LOCK, str(self.path)):
            remove_half_written(self.path)
            yield

    def demand_nothing_in_it(self) -> None:
        """Checks again while the lock is held: another process may have been quicker.

        Raises:
            UsageError: there is a run in it.
        """
        if problem := self.problem_with_making():
            raise UsageError(problem)

    def make(self) -> None:
        """Makes the folders inside it."""
        for folder in (self.path, self.bundle, self.figures):
            folder.mkdir(parents=True, exist_ok=True)

    def remove_without_checkpoint(self) -> None:
        """Removes the folder if it has neither a model nor a checkpoint, so nothing is lost."""
        if not self.path.exists() or any(self.path.glob("**/model.json")) or any(self.path.glob("**/checkpoint/*")):
            return
        shutil.rmtree(self.path)

    def set_result_aside(self, number: int) -> Path:
        """Before a finished training is trained longer, its result and report get names of their own.

        Args:
            number: how often it went on beyond its end, from 1.
        """
        aside = self.path / f"result.before-{number}.json"
        self.result.replace(aside)
        if self.report.exists():
            self.report.replace(self.path / f"report.before-{number}.html")
        return aside

    def write_history(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Writes one line per epoch; the file is never half written."""
        write_text(self.history, "".join(json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs))

    def read_history(self) -> list[dict[str, Any]]:
        """All epochs.

        Raises:
            UsageError: missing or damaged.
        """
        try:
            lines = self.history.read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            raise UsageError(f"{self.history}: there is no such file; no epoch was finished") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UsageError(f"{self.history}: cannot be read ({error})") from None

    def read_result(self) -> dict[str, Any]:
        """The figures at the end.

        Raises:
            UsageError: this is not a finished run.
        """
        if not is_there(self.result) and not self.path.is_dir():
            raise UsageError(f"{self.path}: there is no such run")
        if not self.result.exists():
            go_on = f"; resume it: {self.command_to_go_on()}" if self.can_go_on else ""
            raise UsageError(f"{self.path}: is not a finished run (it has no {self.result.name}){go_on}")
        result = read_json(self.result)
        if not isinstance(result, dict) or "validation" not in result:
            raise UsageError(f"{self.result}: is damaged (there is no validation in it)")
        return as_now(result, self.result)

    def read_finished_result(self) -> dict[str, Any]:
        """The figures of a training that ended by itself, or with its minutes.

        Raises:
            UsageError: this is not a finished run, or its training was stopped.
        """
        result = self.read_result()
        if stopped := result["stopped"]:
            go_on = f"resume it: {self.command_to_go_on()}" if self.can_go_on else "train it again"
            if is_spoilt(result):
                go_on = "resuming would fail again; start a new run with another setting"
            raise UsageError(f"{self.path}: is not finished ({stopped['text']}); {go_on}")
        return result

    def test_evaluations(self) -> int:
        """How often models of this run were judged on test photos; a damaged result counts 0."""
        most = 0
        for path in (self.result, *self.path.glob("result.before-*.json")):
            with contextlib.suppress(UsageError):
                told = read_json(path)
                count = told.get("test_evaluations") if isinstance(told, dict) else None
                most = max(most, count) if isinstance(count, int) else most
        return most

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes the figures at the end."""
        write_json(self.result, dict(result))
