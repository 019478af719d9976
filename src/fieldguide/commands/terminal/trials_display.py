"""What a person sees while trials run on a cluster: a table on a terminal, a line per event elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.live import Live
from rich.table import Table

from fieldguide.commands.terminal.screen import Screen
from fieldguide.errors import UsageError, shown
from fieldguide.run_folder import RunFolder

HANDED_OVER, RUNNING = "handed over", "running"
MOST_ROWS = 30  # of a table on a terminal; more would scroll


@dataclass
class _Line:
    state: str = "waiting"
    epochs: int = 0
    best: float | None = None
    has_ended: bool = False


class TrialsDisplay:
    """Follows trials by the history that each keeps in its run."""

    def __init__(self, screen: Screen, runs: Mapping[str, RunFolder]) -> None:
        self._screen, self._runs = screen, runs
        self._lines = {name: _Line() for name in runs}
        self._live = Live(console=screen.console, refresh_per_second=2, get_renderable=self._table)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Shows the table, and leaves it on the screen."""
        if not self._screen.is_live:
            yield
            return
        with self._live:
            yield

    def begins(self, name: str) -> None:
        """A trial was handed over; it runs once there is room."""
        self._lines[name].state = HANDED_OVER

    def ends(self, name: str, how: str) -> None:
        """A trial has ended."""
        self._read(name)
        self._lines[name].state, self._lines[name].has_ended = how, True
        if not self._screen.is_live:
            self._screen.say(f"{name}: {how}")

    def look(self) -> None:
        """Reads how far the trials are."""
        for name, line in self._lines.items():
            if line.state not in (HANDED_OVER, RUNNING) or not self._read(name):
                continue
            line.state = RUNNING
            if not self._screen.is_live:
                best = "" if line.best is None else f", best validation accuracy {line.best:.4f}"
                self._screen.say(f"{name}: epoch {line.epochs}{best}")

    def _read(self, name: str) -> bool:
        """Whether a trial has more epochs than before."""
        line, run = self._lines[name], self._runs[name]
        if not run.history.exists():
            return False
        try:
            epochs = run.read_history()
        except UsageError:  # it is just being replaced
            return False
        before, line.epochs = line.epochs, len(epochs)
        line.best = max((float(epoch["validation"]["accuracy"]) for epoch in epochs), default=None)
        return line.epochs > before

    def _table(self) -> Table:
        table = Table("trial", "epochs", "best validation accuracy", "state", box=None, pad_edge=False)
        rows = sorted(self._lines.items(), key=lambda each: each[1].has_ended)  # what still runs is seen
        for name, line in rows[:MOST_ROWS]:
            best = "" if line.best is None else f"{line.best:.4f}"
            table.add_row(shown(name), str(line.epochs or ""), best, shown(line.state))
        if len(rows) > MOST_ROWS:
            table.add_row(f"... and {len(rows) - MOST_ROWS} more")
        return table
