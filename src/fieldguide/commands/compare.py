"""`fieldguide compare`: the table of methods for runs that exist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.table import show, write_tables
from fieldguide.errors import UsageError
from fieldguide.report import comparison
from fieldguide.report.pairs import Pairs, pair_runs
from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_text


def compare(
    runs: Sequence[str | Path],
    *,
    csv_file: str | Path | None = None,
    markdown_file: str | Path | None = None,
    json_file: str | Path | None = None,
    html_file: str | Path | None = None,
    quiet: bool = False,
) -> list[comparison.Row]:
    """Puts runs side by side, and says which is better on the same photos.

    Args:
        runs: folders of finished runs, trained on the same split.
        csv_file, markdown_file: where to write the table; Markdown has the sentences of the comparisons, too.
        json_file: where to write `rows` and `comparisons` (`pairs` with all figures, and `remarks`).
        html_file: where to write the table as a page, with the curves side by side.
        quiet: show nothing.

    Returns:
        One row per run, with the keys of `report.comparison.HEADER`.

    Raises:
        UsageError: runs are missing or unfinished, the splits differ, or an output is a run's file or another output.
    """
    if isinstance(runs, str | Path):  # a string would be read letter by letter
        raise UsageError("compare takes a list of runs; put a single one into [ ]")
    results: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    folders, places = [RunFolder(Path(run)) for run in runs], [Path(run).resolve() for run in runs]
    differ = len({place.name for place in places}) == len(places)
    names = [place.name if differ else str(folder.path) for place, folder in zip(places, folders, strict=True)]
    for folder, name in zip(folders, names, strict=True):
        try:
            results.append((name, folder.read_finished_result()))
        except UsageError as error:
            problems += error.problems
    problems += [f"{run}: given twice" for i, run in enumerate(runs) if places[i] in places[:i]]
    if problems:
        raise UsageError(*problems)
    demand_free_outputs({"--csv": csv_file, "--markdown": markdown_file, "--json": json_file, "--html": html_file})
    rows = comparison.table(results)
    pairs = pair_runs([(name, folder, result) for folder, (name, result) in zip(folders, results, strict=True)])
    screen = Screen(quiet=quiet)
    show(rows, pairs, screen)
    write_tables(rows, pairs, csv_file, markdown_file, json_file)
    if html_file is not None:
        _write_page(rows, pairs, dict(zip(names, folders, strict=True)), Path(html_file))
    if written := [str(file) for file in (csv_file, markdown_file, json_file, html_file) if file is not None]:
        screen.say(f"table: {', '.join(written)}")
    return rows


def _write_page(rows: Sequence[comparison.Row], pairs: Pairs, runs: Mapping[str, RunFolder], path: Path) -> None:
    from fieldguide.report.methods_page import methods_page  # matplotlib and Jinja2, not for every table

    histories = {name: run.read_history() for name, run in runs.items() if run.history.exists()}
    content = methods_page(rows, pairs, histories)
    try:
        write_text(path, content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None
