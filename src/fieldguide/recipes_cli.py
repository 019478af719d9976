"""`fieldguide recipes` and what belongs to it: list, show, copy."""

from pathlib import Path
from typing import Annotated

import typer

from fieldguide.options import command

recipes_app = typer.Typer(
    help="List, show or copy the built-in recipes (presets).",
    epilog="Example: fieldguide recipes show resnet50-adam",
    rich_markup_mode=None,
    no_args_is_help=False,
    invoke_without_command=True,
)


@recipes_app.callback()
@command
def list_recipes(context: typer.Context) -> None:
    """List, show or copy the built-in recipes (presets)."""
    if context.invoked_subcommand is not None:
        return
    from fieldguide.commands.recipes import list_recipes as listed

    for name, text in listed():
        print(f"{name:<20} {text}")


@recipes_app.command(epilog="Example: fieldguide recipes show resnet50-adam")
@command
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="a preset or a YAML file")],
    classes: Annotated[int, typer.Option(metavar="N", min=2, help="number of classes, for the parameter count")] = 100,
) -> None:
    """Show a recipe and the model it builds."""
    from fieldguide.commands.recipes import show_recipe

    print(show_recipe(name, classes))


@recipes_app.command(epilog="Example: fieldguide recipes copy resnet50-adam mine.yaml")
@command
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a preset")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file to create")],
) -> None:
    """Copy a recipe to a file you can edit."""
    from fieldguide.commands.recipes import copy_recipe

    print(f"{copy_recipe(name, file)} written; train with --recipe {file}")
