"""`fieldguide import`, and `fieldguide weights` with its commands: list, get, import."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fieldguide.options import Settings, command, option


@command
def import_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="state dict: .safetensors, .pth or .pt")],
    recipe: Annotated[str, option("NAME|FILE", "recipe with its network, head and preprocessing")],
    classes: Annotated[Path, option("FILE", "one class per line, in the order of the network's outputs")],
    output: Annotated[Path, option("RUN", "folder for the model; must not exist yet", "-o", "--output")],
    settings: Settings = None,
) -> None:
    """Make a model of a checkpoint that another program trained."""
    from fieldguide.commands.import_checkpoint import import_checkpoint as make

    made = make(file, recipe, classes, output, overrides=settings or ())
    for remark in made.remarks:
        print(f"warning: {remark}", file=sys.stderr)
    print(f"{made.path}: {len(made.classes):,} classes, {made.parameters['total']:,} parameters, head included")
    print(f"judge it with: fieldguide evaluate {made.path} PHOTOS")


weights_app = typer.Typer(
    help="List, fetch or import pretrained weights.",
    epilog="Example: fieldguide weights get resnet50.a1_in1k",
    rich_markup_mode=None,
    no_args_is_help=False,
    invoke_without_command=True,
)


@weights_app.callback()
@command
def list_weights(context: typer.Context) -> None:
    """List, fetch or import pretrained weights."""
    if context.invoked_subcommand is None:
        from fieldguide.commands.weights import list_weights as listed

        print("\n".join(listed()))


@weights_app.command(epilog="Example: fieldguide weights get resnet50.a1_in1k resnetrs101.tf_in1k")
@command
def get(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="backbones")]) -> None:
    """Fetch weights into the Hub's cache, for later without a network."""
    from fieldguide.commands.weights import get_weights

    for name in names:
        print(f"{name}: {get_weights(name)}")


@weights_app.command("import", epilog="Example: fieldguide weights import model.safetensors resnet50.a1_in1k")
@command
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="weights: .safetensors or .pth")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="the backbone that they are of")],
) -> None:
    """Lay a file of weights into the Hub's cache, on a machine without the Hub."""
    from fieldguide.commands.weights import import_weights

    print(f"{name}: {import_weights(file, name)}; set HF_HUB_OFFLINE=1 to use it without asking the Hub")
