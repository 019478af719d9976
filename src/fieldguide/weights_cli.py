"""`fieldguide import`: another program's checkpoint."""

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
