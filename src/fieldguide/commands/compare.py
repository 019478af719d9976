"""`fieldguide compare`: the table of methods for runs that exist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from fieldguide.commands.display import Screen
from fieldguide.errors import UsageError
from fieldguide.evaluation.predictions import read_predictions
from fieldguide.report import comparison
from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_text


def compare(
    runs: Sequence[str | Path],
    *,
    csv_file: str | Path | None = None,
    markdown_file: str | Path | None = None,
    html_file: str | Path | None = None,
    quiet: bool = False,
) -> list[comparison.Row]:
    """Puts runs side by side.

    Args:
        runs: folders of finished runs, trained on the same split.
        csv_file, markdown_file: where to write the table as well.
        html_file: where to write the table as a page, with the curves side by side.
        quiet: show nothing.

    Returns:
        A row a run, with the keys of `report.comparison.HEADER`.

    Raises:
        UsageError: a run is missing or unfinished (all of them named), or the splits differ.
    """
    results: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    names = _short_names([Path(run) for run in runs])
    for run, name in zip(runs, names, strict=True):
        try:
            results.append((name, RunFolder(Path(run)).read_result()))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(*problems)
    rows = comparison.table(results)
    write_tables(rows, csv_file, markdown_file)
    if html_file is not None:
        _write_page(rows, [RunFolder(Path(run)) for run in runs], names, Path(html_file))
    show(rows, Screen(quiet=quiet))
    return rows


def write_tables(rows: Sequence[comparison.Row], csv_file: str | Path | None, markdown_file: str | Path | None) -> None:
    """Writes the table where it is wanted.

    Raises:
        UsageError: it cannot be written there.
    """
    for path, text in ((csv_file, comparison.to_csv(rows)), (markdown_file, comparison.to_markdown(rows))):
        if path is None:
            continue
        try:
            write_text(Path(path), text)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None


def _write_page(rows: Sequence[comparison.Row], runs: Sequence[RunFolder], names: Sequence[str], path: Path) -> None:
    from fieldguide.report.methods_page import Method, methods_page  # matplotlib and Jinja2, not for every table

    methods = [
        Method(name, run.read_history(), read_predictions(run.predictions) if run.predictions.exists() else None)
        for name, run in zip(names, runs, strict=True)
    ]
    try:
        write_text(path, methods_page(rows, methods))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None


def show(rows: Sequence[comparison.Row], screen: Screen) -> None:
    """The table on a screen."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in comparison.TITLES:
        table.add_column(title, justify="right" if title in ("parameters", "minutes") else "left")
    for row in rows:
        table.add_row(*comparison.cells(row))
    screen.show(table)
    screen.say(comparison.footnote(rows))


def _short_names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names where they differ, else the paths."""
    own = [run.resolve().name for run in runs]
    return own if len(set(own)) == len(own) else [str(run) for run in runs]
