"""Looks at the test photos, counted in the runs whose models were judged on them, and the figures of one kept there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldguide import locks
from fieldguide.commands.judging.models import Loaded, run_of
from fieldguide.errors import UsageError
from fieldguide.report.write import report as write_report
from fieldguide.run_folder import RunFolder


def keep_in_runs(loaded: Loaded, figures: Mapping[str, Any]) -> list[str]:
    """Counts a look at the test photos in every run; the figures of one stand in it, those of several in none."""
    if len(loaded.paths) == 1:
        return _keep_in_run(loaded.paths[0], figures)
    told = ["these are figures of several runs together: they stand in the result of none (--json FILE keeps them)"]
    for path in loaded.paths:
        told += _keep_in_run(path, None)
    return told


def _keep_in_run(path: Path, figures: Mapping[str, Any] | None) -> list[str]:
    """Counts in a run's result that its model was judged on test photos, and writes the figures if they are its own.

    Returns:
        What could not be done.
    """
    short = {key: value for key, value in (figures or {}).items() if key not in ("per_class", "confused_pairs")}
    try:
        run = run_of(path)
        if run is None or not run.result.is_file():
            why = "is a bundle without its run" if run is None else "has no result yet"
            return [f"{path}: {why}, so nothing counts how often its model was judged on test photos"]
        with locks.turn(run.counting):
            result = run.read_result() | ({"test": short} if short else {})
            run.write_result({**result, "test_evaluations": run.test_evaluations() + 1})
            return _tell_in_report(run)
    except (OSError, UsageError) as error:
        return [f"{path}: keeps neither these figures nor that its model was judged on test photos ({error})"]


def _tell_in_report(run: RunFolder) -> list[str]:
    """A run's report says whether test was touched; returns why it does not, if so."""
    try:
        if run.report.exists():
            write_report(run.path)
    except (OSError, UsageError) as error:
        return [f"{run.report}: does not tell of these figures ({error}); fieldguide report makes it again"]
    return []
