"""Where a command writes: live on a terminal and in a notebook, plain lines elsewhere, `logging` when quiet."""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fieldguide import world
from fieldguide.errors import shown, worded

WIDTH_OF_A_FILE = 200


class _Console(Console):
    """Stays silent when its reader goes away, where rich's console would end the program."""

    def _check_buffer(self) -> None:
        """rich notices a closed pipe, but not a terminal that is gone (EIO) or a full disk behind `> file`."""
        try:
            super()._check_buffer()
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Shows nothing from now on."""
        self.quiet = True
        del self._buffer[:]
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Screen:
    """Where a command writes for people. Names of files and classes are never read as markup, nor as emoji.

    On stderr, standard output stays free for a result. When quiet, the logger `fieldguide` gets the messages instead:
    info, and warning for warnings.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, on_stderr: bool = False) -> None:
        self.console = console or _Console(highlight=False, soft_wrap=True, quiet=quiet, stderr=on_stderr)
        if not self.console.is_terminal:
            self.console.width = WIDTH_OF_A_FILE

    @property
    def name(self) -> str:
        """Its name in `SCREENS`, for another process that is to show as much."""
        return "quiet" if self.console.quiet else "terminal"

    def say(self, text: str, style: str | None = None) -> None:
        """One or more lines."""
        text = worded(text)
        self._log(logging.INFO, text)
        self.console.print(shown(text), style=style, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """A warning."""
        text = worded(text)
        self._log(logging.WARNING, text)
        self.console.print(f"warning: {shown(text)}", style="yellow", markup=False, emoji=False)

    @property
    def is_live(self) -> bool:
        """Whether lines can be changed: on a terminal, and in a notebook that has the widgets for it."""
        has_widgets = self.console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        return (self.console.is_terminal or has_widgets) and not self.console.quiet

    def _log(self, level: int, text: str) -> None:
        if not self.console.quiet:
            return
        logger = logging.getLogger("fieldguide")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # or Python would print warnings that nobody asked for
        logger.log(level, "%s", shown(text))

    def show(self, table: Table) -> None:
        """A table."""
        self.console.print(table)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar where lines can be changed; yields a function that takes how many are done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.is_live) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.advance(task, count)


SCREENS: Mapping[str, Callable[[], Screen]] = {"terminal": Screen, "quiet": lambda: Screen(quiet=True)}


def warn_of_hidden_gpu(device: object, screen: Screen) -> None:
    """In the first line, where `auto` means the CPU although there is a GPU."""
    if str(device) == "auto" and (why := world.why_no_gpu()):
        screen.warn(f"{why}. Until then the CPU computes; --device cpu hides this warning")
