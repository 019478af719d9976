"""Arguments to one command, whose code is imported only when it is called."""

import io
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fieldguide.commands.terminal.allocator import start_again_with_settings
from fieldguide.commands.terminal.exit_code import exit_code_of, open_missing_streams
from fieldguide.errors import UsageError
from fieldguide.experiment_cli import experiment, search
from fieldguide.export_cli import export
from fieldguide.options import (
    PHOTOS,
    RUNS,
    AllowBrokenRules,
    Columns,
    Device,
    Engine,
    Photos,
    PhotosFolder,
    Settings,
    Weights,
    command,
    file_option,
    loading,
    option,
)
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipes_cli import recipes_app
from fieldguide.serve_cli import serve
from fieldguide.weights_cli import import_checkpoint, weights_app

BEGAN = time.monotonic()  # from where minutes are counted
COMPUTE = ("train", "experiment", "search", "predict", "evaluate", "export", "serve")  # for which the allocator matters

app = typer.Typer(
    epilog="Start with: fieldguide train PHOTOS -o runs/first",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(recipes_app, name="recipes")
app.add_typer(weights_app, name="weights")
app.command("import", epilog="Example: fieldguide import best.pth --recipe resnet50-adam --classes classes.txt -o RUN")(
    import_checkpoint
)
app.command(epilog="Example: fieldguide export runs/first -o exports/onnx --format onnx")(export)
app.command(epilog="Example: fieldguide serve runs/first --port 8000")(serve)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fieldguide {version('fieldguide')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Turn a folder of photos into an image classifier you can trust."""


@app.command(epilog="Example: fieldguide check photos --html check.html")
@command
def check(
    photos: Photos,
    json: Annotated[Path | None, file_option("the findings")] = None,
    html: Annotated[Path | None, file_option("a page with thumbnails")] = None,
    settings: Settings = None,
    photos_folder: PhotosFolder = None,
    columns: Columns = None,
) -> int:
    """Check photos for problems before training."""
    from fieldguide.commands.check import check as look
    from fieldguide.commands.check import show
    from fieldguide.commands.terminal.screen import Screen

    screen = Screen()
    table: Any = {"photos_folder": photos_folder, "columns": columns, "overrides": settings or ()}
    report = look(photos, json_file=json, html_file=html, progress=screen.counting, tell=screen.say, **table)
    show(report, screen, [file for file in (json, html) if file])
    return report.exit_code


@app.command(epilog="Example: fieldguide train photos -o runs/first --minutes 10")
@command
def train(
    photos: Annotated[Path | None, typer.Argument(metavar="PHOTOS", help=PHOTOS)] = None,
    output: Annotated[Path | None, option("RUN", "folder for the run; must not exist yet", "-o", "--output")] = None,
    recipe: Annotated[str | None, option("NAME|FILE", f"preset or YAML file; default {DEFAULT_RECIPE}")] = None,
    settings: Settings = None,
    weights: Weights = None,
    device: Annotated[str | None, option("DEVICE", "auto, cpu, cuda:N or mps", "--device")] = None,
    minutes: Annotated[float | None, option("N", "time limit for the whole command, in minutes")] = None,
    resume: Annotated[Path | None, option("RUN", "continue this run from its last checkpoint")] = None,
    photos_folder: PhotosFolder = None,
    columns: Columns = None,
    processes: Annotated[
        int | None, option("N", "processes that train together: one per GPU, or sharing the CPU")
    ] = None,
) -> int:
    """Train a classifier, or resume a run (--resume RUN)."""
    if processes is not None:
        from fieldguide.commands.together import launched

        if (code := launched(processes)) is not None:
            return code
    if resume is not None:
        with loading():
            from fieldguide.commands.resume import resume as go_on

        given = {"-o": output, "--recipe": recipe, "--weights": weights, "--minutes": minutes, "--columns": columns}
        if ignored := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"--resume: the run keeps its own settings; leave out {', '.join(ignored)}")
        where: Any = {"overrides": settings or (), "device": device, "photos_folder": photos_folder}
        return go_on(resume, photos, **where).exit_code
    if photos is None or output is None:
        missing = "PHOTOS" if photos is None else "-o RUN"
        raise UsageError(f"{missing} is missing: fieldguide train PHOTOS -o RUN, or fieldguide train --resume RUN")
    with loading():
        from fieldguide.commands.train import train as run

    settings, recipe, device = settings or [], recipe or DEFAULT_RECIPE, device or "auto"
    more: Any = {"minutes": minutes, "began": BEGAN, "photos_folder": photos_folder, "columns": columns}
    return run(photos, recipe, output, overrides=settings, weights=weights, device=device, **more).exit_code


@app.command(epilog="Example: fieldguide evaluate runs/first photos --json metrics.json")
@command
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN... PHOTOS", help=f"{RUNS}; then labelled photos: folder, table, archive"),
    ],
    part: Annotated[str | None, option("PART", "test, val or train; default: test if labelled, else val")] = None,
    labels: Annotated[Path | None, option("FILE", "table of labels for photos without class folders")] = None,
    json: Annotated[Path | None, file_option("accuracy and the other metrics")] = None,
    device: Device = "auto",
    engine: Engine = "plain",
    allow_broken_rules: AllowBrokenRules = False,
    photos_folder: PhotosFolder = None,
    columns: Columns = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="leave out photos of classes that the model does not know")
    ] = False,
) -> int:
    """Measure a classifier's accuracy on labelled photos."""
    with loading():
        from fieldguide.commands.evaluate import evaluate as judge
    from fieldguide.commands.judging.models import runs_and_photos

    runs, photos = runs_and_photos(paths)
    how: Any = {"device": device, "engine": engine, "allow_broken_rules": allow_broken_rules}
    how |= {"photos_folder": photos_folder, "columns": columns, "skip_unknown": skip_unknown}
    return judge(runs, photos, part=part, labels=labels, json_file=json, **how).exit_code


@app.command(epilog="Example: fieldguide predict runs/first new_photos -o prediction.csv --top 5")
@command
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN... IMAGES...", help=f"{RUNS}; then photos, folders, archives, lists or -"),
    ],
    output: Annotated[
        Path, option("FILE", "CSV or .parquet, - for stdout, or .zip with --format submission", "-o", "--output")
    ],
    top: Annotated[int, option("N", "classes listed per photo")] = 1,
    format: Annotated[str, option("FORMAT", "csv, or submission (for a competition: image_name,pred_label)")] = "csv",
    unsure_below: Annotated[
        float | None, option("CONFIDENCE", "mark less confident predictions as unsure, such as 0.8")
    ] = None,
    spreadsheet_safe: Annotated[
        bool, typer.Option("--spreadsheet-safe", help="put ' before names that a spreadsheet would take for formulas")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with this command after it was interrupted")] = False,
    sort_into: Annotated[
        Path | None, option("FOLDER", "copy photos into folders by predicted class", "--sort-into")
    ] = None,
    links: Annotated[bool, typer.Option("--links", help="with --sort-into: link instead of copying")] = False,
    settings: Annotated[
        list[str] | None, option("FIELD=VALUE", "data.max_megapixels alone: read larger photos", "--set")
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    flips: Annotated[str, option("FLIPS", "none: leave out the mirror images that a run asks for")] = "as-trained",
    allow_int8: Annotated[bool, typer.Option("--allow-int8", help="let an export predict by its file in int8")] = False,
    allow_broken_rules: AllowBrokenRules = False,
    on: Annotated[str | None, option("WHERE", "ray: by many processes, to a folder of Parquet files")] = None,
    cpus_per_actor: Annotated[float, option("N", "with --on: CPUs that each process takes")] = 1,
    gpus_per_actor: Annotated[float | None, option("N", "with --on: GPUs of each; default: 1 if there are any")] = None,
) -> int:
    """Write one prediction per photo to a CSV or Parquet file."""
    from fieldguide.commands.judging.models import runs_and_images
    from fieldguide.commands.predict import predict as write

    runs, images = runs_and_images(paths)
    rows: Any = {"top": top, "format": format, "unsure_below": unsure_below, "spreadsheet_safe": spreadsheet_safe}
    how: Any = {"device": device, "engine": engine, "flips": flips, "allow_broken_rules": allow_broken_rules}
    how |= {
        "allow_int8": allow_int8,
        "resume": resume,
        "sort_into": sort_into,
        "links": links,
        "overrides": settings or (),
    }
    how |= {"on": on, "cpus_per_actor": cpus_per_actor, "gpus_per_actor": gpus_per_actor}
    return write(runs, images, output, **rows, **how).exit_code


app.command(epilog="Example: fieldguide experiment photos -o runs/table --recipe resnet34-adam --recipe resnet34-sgd")(
    experiment
)
app.command(epilog="Example: fieldguide search photos -o searches/first --minutes 120 --on ray")(search)


@app.command(epilog="Example: fieldguide compare runs/a runs/b --markdown table.md")
@command
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="finished runs on the same split")],
    csv: Annotated[Path | None, file_option("the table")] = None,
    markdown: Annotated[Path | None, file_option("the table")] = None,
    html: Annotated[Path | None, file_option("a page with table and curves")] = None,
    json: Annotated[Path | None, file_option("the table and the paired tests")] = None,
) -> None:
    """Compare runs in one table, with a significance test per pair."""
    from fieldguide.commands.compare import compare as show

    show(runs, csv_file=csv, markdown_file=markdown, json_file=json, html_file=html)


@app.command(epilog="Example: fieldguide report runs/first")
@command
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")]) -> None:
    """Rebuild a run's report.html; model and photos are not needed."""
    from fieldguide.commands.report import report as write

    path = write(run)
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command(epilog="Example: fieldguide env")
@command
def env(device: Device = "auto") -> None:
    """Show this machine, versions and what `auto` settings become."""
    from fieldguide.commands.env import env as tell

    for name, value in tell(device):
        print(f"{name:<14} {value}")


@app.command(epilog="Example: fieldguide cache --clear")
@command
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="delete cached photos that no training is using")] = False,
    forget_engines: Annotated[
        bool,
        typer.Option("--forget-engines", help="delete engine speeds and compiled networks; predict measures again"),
    ] = False,
) -> None:
    """Show or clear cached photos and speeds of prediction engines."""
    from fieldguide.commands.cache import cache as look

    print("\n".join(look(clear=clear, forget_engines=forget_engines).sentences()))


def main() -> None:
    """The program."""
    open_missing_streams()
    if len(sys.argv) > 1 and sys.argv[1] in COMPUTE:
        start_again_with_settings(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends nothing
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":  # torchrun starts several processes
        from fieldguide.commands.together import run_together

        sys.exit(run_together(lambda: exit_code_of(app)))
    sys.exit(exit_code_of(app))  # its help is printed outside of any command
