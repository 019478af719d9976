"""What the command line's commands share: options, arguments, and how an error ends them."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from fieldguide.commands.terminal.exit_code import exit_code_of

P = ParamSpec("P")


def option(metavar: str, help: str, *names: str) -> Any:
    """An option with the name of its argument, or with these names."""
    return typer.Option(*names, metavar=metavar, help=help)


def file_option(what: str) -> Any:
    """An option for a file to write."""
    return option("FILE", f"write {what} to this file")


Device = Annotated[str, option("DEVICE", "auto, cpu, cuda:N or mps", "--device")]
Engine = Annotated[
    str, option("NAME", "plain (as trained); faster: folded, compiled, openvino, int8; auto: the fastest", "--engine")
]
Settings = Annotated[list[str] | None, option("FIELD=VALUE", "change a recipe field; repeatable", "--set")]
Weights = Annotated[str | None, option("X", "start from: hub (pretrained), none (random), file or run", "--weights")]
PHOTOS = "folder that contains CLASS/ or train/CLASS/ folders; a table of labels; a .zip or .tar"
Photos = Annotated[Path, typer.Argument(metavar="PHOTOS", help=PHOTOS)]
AllowBrokenRules = Annotated[
    bool, typer.Option("--allow-broken-rules", help="continue if the ensemble breaks a rule of a run's recipe")
]
RUNS = "runs or bundles (RUN/bundle); several form an ensemble"
PhotosFolder = Annotated[
    Path | None, option("FOLDER", "where a table's photos are; default: beside the table", "--photos")
]
Columns = Annotated[str | None, option("ROLE=NAME,...", "a table's columns, such as label=species,group=camera")]


LOADING = "loading PyTorch, some seconds"


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """On a terminal, says why nothing happens while a command is imported, and takes it away again."""
    is_shown = sys.stderr.isatty()
    if is_shown:
        print(LOADING, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if is_shown:
            print(f"\r{' ' * len(LOADING)}\r", end="", file=sys.stderr, flush=True)


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """A command that ends with its exit code, and without a traceback for a user's mistake."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if code := exit_code_of(lambda: function(*args, **kwargs)):
            raise typer.Exit(code)

    return run
