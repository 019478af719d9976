"""The table of methods, shown and written."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from fieldguide.commands.terminal.outputs import Output
from fieldguide.commands.terminal.screen import Screen
from fieldguide.errors import UsageError, shown
from fieldguide.report import comparison
from fieldguide.report.pairs import Pairs
from fieldguide.storage import write_json, write_text


def write_tables(rows: Sequence[comparison.Row], pairs: Pairs, csv: Output, markdown: Output, json: Output) -> None:
    """Writes table and comparisons to the given files; raises UsageError if one cannot be written."""
    on_test = comparison.remarks_on_test(rows)
    compared = {"pairs": [pair.as_dict() for pair in pairs.pairs], "remarks": [*on_test, *pairs.remarks]}
    wanted: list[tuple[Output, Callable[[Path], None]]] = [
        (csv, lambda path: write_text(path, comparison.to_csv(rows))),
        (markdown, lambda path: write_text(path, comparison.to_markdown(rows, [*on_test, *pairs.sentences]))),
        (json, lambda path: write_json(path, {"rows": list(rows), "comparisons": compared})),
    ]
    for path, write in wanted:
        if path is None:
            continue
        try:
            write(Path(path))
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None


def show(rows: Sequence[comparison.Row], pairs: Pairs, screen: Screen) -> None:
    """The table on a screen, then one sentence per pair."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in comparison.TITLES:
        table.add_column(title, justify="right" if title in ("parameters", "minutes") else "left")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in comparison.cells(row)))  # no name is markup
    screen.show(table)
    screen.say(comparison.footnote(rows))
    for remark in comparison.remarks_on_test(rows):
        screen.warn(remark)
    for sentence in pairs.sentences:
        screen.say(sentence)
