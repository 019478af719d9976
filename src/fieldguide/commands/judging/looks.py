"""Evaluations on test photos, counted in the runs, and the figures kept there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldguide import locks
from fieldguide.commands.judging.models import Loaded, run_of
from fieldguide.errors import UsageError
from fieldguide.report.write import report as write_report
from fieldguide.run_folder import RunFolder


def keep_in_runs(loaded: Loaded, figures: Mapping[str, Any]) -> list[str]:
    """Counts an evaluation on test photos in each run; figures of a single run are also written into it."""
    if len(loaded.paths) == 1:
        return _keep_in_run(loaded.paths[0], figures)
    told = ["figures of an ensemble are not written into its runs; keep them with --json FILE"]
    for path in loaded.paths:
        told += _keep_in_run(path, None)
    return told


def _keep_in_run(path: Path, figures: Mapping[str, Any] | None) -> list[str]:
    """Counts an evaluation on test photos in a run's result, with any figures; returns what could not be done."""
    short = {
        key: value
        for key, value in (figures or {}).items()
        if key not in ("per_class", "confused_pairs", "confusion_matrix")
    }
    try:
        run = run_of(path)
        if run is None or not run.result.is_file():
            why = "is a bundle without its run" if run is None else "has no result yet"
            return [f"{path}: {why}, so this evaluation on test photos is not counted"]
        with locks.turn(run.counting):
            result = run.read_result() | ({"test": short} if short else {})
            run.write_result({**result, "test_evaluations": run.test_evaluations() + 1})
            return _tell_in_report(run)
    except (OSError, UsageError) as error:
        return [f"{path}: cannot keep these figures or count this evaluation on test photos ({error})"]


def _tell_in_report(run: RunFolder) -> list[str]:
    """Updates the report with the test figures; returns why it could not."""
    try:
        if run.report.exists():
            write_report(run.path)
    except (OSError, UsageError) as error:
        return [f"{run.report}: not updated with these figures ({error}); run fieldguide report"]
    return []
