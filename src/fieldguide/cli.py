"""Arguments to one command, whose code is imported only when it is called."""

import functools
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from fieldguide.commands.terminal.allocator import start_again_with_settings
from fieldguide.commands.terminal.exit_code import exit_code_of, open_missing_streams
from fieldguide.errors import UsageError
from fieldguide.recipe import DEFAULT_RECIPE

BEGAN = time.monotonic()  # from where minutes are counted
P = ParamSpec("P")
COMPUTE = ("train", "experiment", "predict", "evaluate")  # for which the allocator matters

app = typer.Typer(
    help="Turn a folder of photos into an image classifier you can trust.",
    epilog="Start with: fieldguide train PHOTOS -o runs/first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(
    help="List, show or copy the recipes that come with the program.",
    epilog="Example: fieldguide recipes show resnet50-adam",
    rich_markup_mode=None,
    no_args_is_help=False,
    invoke_without_command=True,
)
app.add_typer(recipes_app, name="recipes")

Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda:N", metavar="DEVICE")]
Engine = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="auto, plain (fp32, as judged), folded, compiled or openvino")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="change a field of the recipe; may be repeated"),
]
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="X", help="hub, none, a file or a run (short for model.weights)")
]
Photos = Annotated[Path, typer.Argument(metavar="PHOTOS", help="folder with train/CLASS/ or CLASS/ in it")]
AllowBrokenRules = Annotated[
    bool, typer.Option("--allow-broken-rules", help="go on where several runs together break a rule of one of them")
]


def _command(function: Callable[P, int | None]) -> Callable[P, None]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if code := exit_code_of(lambda: function(*args, **kwargs)):
            raise typer.Exit(code)

    return run


@app.command(epilog="Example: fieldguide check photos --html check.html")
@_command
def check(
    photos: Photos,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the findings there")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write a page with thumbnails there")] = None,
) -> int:
    """Look a folder of photos over, before an hour is spent on it."""
    from fieldguide.commands.check import check as look
    from fieldguide.commands.check import show
    from fieldguide.commands.terminal.screen import Screen

    screen = Screen()
    report = look(photos, json_file=json, html_file=html, progress=screen.counting)
    show(report, screen)
    return report.exit_code


@app.command(epilog="Example: fieldguide train photos -o runs/first --minutes 10")
@_command
def train(
    photos: Annotated[
        Path | None, typer.Argument(metavar="PHOTOS", help="folder with train/CLASS/ or CLASS/ in it")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="RUN", help="the run's folder, made anew")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help=f"a preset or a YAML file; default {DEFAULT_RECIPE}")
    ] = None,
    settings: Settings = None,
    weights: Weights = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda:N", metavar="DEVICE")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="all that the command may take (short for training.max_minutes)"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="go on with a run, from its last saved step")
    ] = None,
) -> int:
    """Train a classifier on a folder of photos, or go on with a training (--resume RUN)."""
    if resume is not None:
        from fieldguide.commands.resume import resume as go_on

        given = {"-o": output, "--recipe": recipe, "--weights": weights, "--minutes": minutes}
        if ignored := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"--resume: the run has its own; leave out {', '.join(ignored)}")
        return go_on(resume, photos, overrides=settings or (), device=device).exit_code
    if photos is None or output is None:
        missing = "PHOTOS" if photos is None else "-o RUN"
        raise UsageError(f"{missing} is missing: fieldguide train PHOTOS -o RUN, or fieldguide train --resume RUN")
    from fieldguide.commands.train import train as run

    chosen, device = recipe or DEFAULT_RECIPE, device or "auto"
    return run(
        photos,
        chosen,
        output,
        overrides=settings or (),
        weights=weights,
        device=device,
        minutes=minutes,
        began=BEGAN,
    ).exit_code


@app.command(epilog="Example: fieldguide evaluate runs/first photos --json figures.json")
@_command
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... PHOTOS", help="a run's folder or a bundle, or several as an ensemble; then labelled photos"
        ),
    ],
    part: Annotated[
        str | None, typer.Option(metavar="PART", help="test, val or train; else test if labelled, else val")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="classes of a flat test folder: a CSV of image,label")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the figures there")] = None,
    device: Device = "auto",
    engine: Engine = "plain",
    allow_broken_rules: AllowBrokenRules = False,
) -> int:
    """Judge a trained classifier on labelled photos."""
    from fieldguide.commands.evaluate import evaluate as judge
    from fieldguide.commands.judging.models import runs_and_photos

    runs, photos = runs_and_photos(paths)
    return judge(
        runs,
        photos,
        part=part,
        labels=labels,
        json_file=json,
        device=device,
        engine=engine,
        allow_broken_rules=allow_broken_rules,
    ).exit_code


@app.command(epilog="Example: fieldguide predict runs/first new_photos -o prediction.csv --top 5")
@_command
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... IMAGES...",
            help="a run's folder or a bundle, or several as an ensemble; then photos, or folders of photos",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="CSV (submission: or .zip)")],
    top: Annotated[int, typer.Option(metavar="N", help="how many classes a row holds")] = 1,
    format: Annotated[str, typer.Option(metavar="FORMAT", help="csv or submission")] = "csv",
    unsure_below: Annotated[
        float | None, typer.Option(metavar="SHARE", help="status `unsure` for less confidence, such as 0.8")
    ] = None,
    spreadsheet_safe: Annotated[
        bool, typer.Option("--spreadsheet-safe", help="put a ' before names that a spreadsheet takes for formulas")
    ] = False,
    device: Device = "auto",
    engine: Engine = "auto",
    allow_broken_rules: AllowBrokenRules = False,
) -> int:
    """Predict photos into a CSV, one row a photo."""
    from fieldguide.commands.judging.models import runs_and_images
    from fieldguide.commands.predict import predict as write

    runs, images = runs_and_images(paths)
    return write(
        runs,
        images,
        output,
        top=top,
        format=format,
        unsure_below=unsure_below,
        spreadsheet_safe=spreadsheet_safe,
        device=device,
        engine=engine,
        allow_broken_rules=allow_broken_rules,
    ).exit_code


@app.command(epilog="Example: fieldguide experiment photos -o runs/table --recipe resnet34-adam --recipe resnet34-sgd")
@_command
def experiment(
    photos: Photos,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="a run a recipe is made in it")],
    recipe: Annotated[list[str], typer.Option(metavar="NAME|FILE", help="may be repeated")],
    seeds: Annotated[
        int, typer.Option(metavar="N", help="train each recipe with N seeds, and give mean and spread")
    ] = 1,
    settings: Settings = None,
    weights: Weights = None,
    device: Device = "auto",
) -> int:
    """Train several recipes on the same split, and put them into one table."""
    from fieldguide.commands.experiment import experiment as run

    return run(photos, recipe, output, seeds=seeds, overrides=settings or (), weights=weights, device=device).exit_code


@app.command(epilog="Example: fieldguide compare runs/a runs/b --markdown table.md")
@_command
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="finished runs on the same split")],
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write the table there")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="write the table there")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write table and curves there, as a page")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write rows and paired comparisons there")] = None,
) -> None:
    """Put runs side by side in one table, and say which beats which."""
    from fieldguide.commands.compare import compare as show

    show(runs, csv_file=csv, markdown_file=markdown, json_file=json, html_file=html)


@app.command(epilog="Example: fieldguide report runs/first")
@_command
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run's folder")]) -> None:
    """Make a run's report.html again, without its model and without the photos."""
    from fieldguide.commands.report import report as write

    path = write(run)
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command(epilog="Example: fieldguide env")
@_command
def env(device: Device = "auto") -> None:
    """Show the machine, the versions, and what they make of a recipe's `auto`."""
    from fieldguide.commands.env import env as tell

    for name, value in tell(device):
        print(f"{name:<14} {value}")


@app.command(epilog="Example: fieldguide cache --clear")
@_command
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="remove the decoded photos that no training uses just now")
    ] = False,
    forget_engines: Annotated[
        bool, typer.Option("--forget-engines", help="let predict measure anew how fast its engines are")
    ] = False,
) -> None:
    """Show what is kept between commands (decoded photos, speeds of engines), or clear it."""
    from fieldguide.commands.cache import cache as look

    print("\n".join(look(clear=clear, forget_engines=forget_engines).sentences()))


@recipes_app.callback()
@_command
def list_recipes(context: typer.Context) -> None:
    """List, show or copy the recipes that come with the program."""
    if context.invoked_subcommand is not None:
        return
    from fieldguide.commands.recipes import list_recipes as listed

    for name, text in listed():
        print(f"{name:<20} {text}")


@recipes_app.command(epilog="Example: fieldguide recipes show resnet50-adam")
@_command
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE")],
    classes: Annotated[int, typer.Option(metavar="N", min=2, help="for counting the parameters")] = 100,
) -> None:
    """Show a recipe, and the model that it builds."""
    from fieldguide.commands.recipes import show_recipe

    print(show_recipe(name, classes))


@recipes_app.command(epilog="Example: fieldguide recipes copy resnet50-adam mine.yaml")
@_command
def copy(name: Annotated[str, typer.Argument(metavar="NAME")], file: Annotated[Path, typer.Argument()]) -> None:
    """Copy a recipe to a file of your own."""
    from fieldguide.commands.recipes import copy_recipe

    print(f"{copy_recipe(name, file)} written; train with --recipe {file}")


def main() -> None:
    """The program."""
    open_missing_streams()
    if len(sys.argv) > 1 and sys.argv[1] in COMPUTE:
        start_again_with_settings(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends nothing
    sys.exit(exit_code_of(app))  # its help is printed outside of any command
