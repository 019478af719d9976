"""What a person sees while a training runs: a live table on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fieldguide.errors import shown

WIDTH_OF_A_FILE = 200


class _Console(Console):
    """rich's console ends the program when its reader goes away; ours goes on in silence, for the work counts."""

    def _check_buffer(self) -> None:
        """rich notices a closed pipe, but not a terminal that went away (EIO) or a full disk behind `> file`."""
        try:
            super()._check_buffer()
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Shows nothing any more."""
        self.quiet = True
        del self._buffer[:]
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Screen:
    """Where a command writes for people. Names of files and classes are never read as markup, nor as emoji."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or _Console(highlight=False, soft_wrap=True, quiet=quiet)
        if not self.console.is_terminal:
            self.console.width = WIDTH_OF_A_FILE

    def say(self, text: str, style: str | None = None) -> None:
        """One or more lines."""
        self.console.print(shown(text), style=style, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """A line that should not be overlooked."""
        self.console.print(f"warning: {shown(text)}", style="yellow", markup=False, emoji=False)

    def show(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar on a terminal; yields a function that takes how many are done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = self.console.is_terminal and not self.console.quiet
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.advance(task, count)
