"""Photos per second that a recipe trains on this machine: steps of the program's own loop, without loading photos.

Usage: python benchmarks/step.py resnet34-adam resnet50-adam --steps 3 [--set execution=fast] [--set FIELD=VALUE]
Each recipe's own network, input size, batch size, optimiser, precision and first phase, with random weights. The loop
repeats one batch, made once as the program makes it. The first epoch, of one step, does not count.
"""

import argparse
import dataclasses
import itertools
import os
import tempfile
from pathlib import Path

import photos
import timm
import torch
from safetensors.torch import save_file

from fieldguide import assemble, world
from fieldguide.assemble.tools import DeviceBatch
from fieldguide.commands.terminal.allocator import start_again_with_settings
from fieldguide.data.split.partition import Row, Split
from fieldguide.recipe.load import read_recipe
from fieldguide.training.loop import train
from fieldguide.training.observers import Observers
from fieldguide.training.state import Scores

NUM_CLASSES = 100
LONG = 100_000


def of_recipe(recipe_name: str, overrides: list[str], device: torch.device) -> tuple[assemble.Assembled, DeviceBatch]:
    """All that its training needs, and one batch of made up photos as the program makes them."""
    always = ["training.rounds=0", f"training.phases.0.patience_epochs={LONG}"]
    with tempfile.TemporaryDirectory() as folder:
        # from a file, for batch normalisation is frozen or folded only where there are weights with statistics
        weights = _weights_by_chance(read_recipe(recipe_name, overrides).model.backbone, Path(folder))
        recipe = assemble.resolved(read_recipe(recipe_name, [f"model.weights={weights}", *always, *overrides]))
        photos.stage(None, Path(folder), recipe.training.batch_size, 0)
        split, paths = _split(Path(folder))
        assembled = assemble.assemble(recipe, split, paths, device, workers=0)
        batch = next(iter(assembled.tools.batches(assembled.plan.phases[0], 1, 0)))
    return assembled, batch


def _weights_by_chance(backbone: str, folder: Path) -> Path:
    file = folder / "weights.safetensors"
    state = timm.create_model(backbone, num_classes=0).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, file)
    return file


def images_per_second(
    recipe_name: str, overrides: list[str], steps: int, epochs: int, device: torch.device
) -> tuple[list[float], int]:
    """Of each epoch after the first, best last; and the network's parameters."""
    assembled, batch = of_recipe(recipe_name, overrides, device)
    phase = assembled.plan.phases[0]
    plan = dataclasses.replace(
        assembled.plan, phases=(phase.model_copy(update={"max_epochs": epochs + 1}),), max_epochs=None
    )
    tools = dataclasses.replace(
        assembled.tools,
        batches=lambda _, epoch, __: itertools.repeat(batch, steps if epoch > 1 else 1),
        steps_per_epoch=steps,
        evaluate=lambda _: Scores(1, 1.0, 0),
    )
    with world.repeatable(0):
        state = train(assembled.model, plan, tools, Observers([]), lambda: None)
    if state.stopped:
        raise SystemExit(f"{recipe_name}: {state.stopped.sentence()}")
    return sorted(epoch.images_per_second for epoch in state.history[1:]), assembled.parameters["total"]


def _split(folder: Path) -> tuple[Split, dict[str, Path]]:
    """The made up photos and as many names more as NUM_CLASSES wants; all are the same few files."""
    paths = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.jpg"))}
    rows = [Row(name, f"class_{place % NUM_CLASSES:02}", "train", "") for place, name in enumerate(paths)]
    first = next(iter(paths))
    missing = range(len(rows), NUM_CLASSES)
    rows += [Row(f"{place}", f"class_{place:02}", "train", "") for place in missing]
    return Split(tuple(rows)), paths | {f"{place}": paths[first] for place in missing}


def main() -> None:
    """Prints a line a recipe, with the allocator that `fieldguide train` sets for itself."""
    start_again_with_settings(os.environ)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="presets or files")
    parser.add_argument("--steps", type=int, default=3, help="steps in an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="epochs; their median and range are shown")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = world.choose_device(arguments.device)
    machine = world.describe_machine(device)
    print(f"{machine['device_name']}, {machine['cpus']} cores, torch {machine['libraries']['torch']}, on {device}")
    for name in arguments.recipes:
        speeds, parameters = images_per_second(name, arguments.set, arguments.steps, arguments.epochs, device)
        middle = speeds[len(speeds) // 2]
        print(
            f"{name:<18} {parameters:>12,} parameters  {middle:8.2f} images/s "
            f"({speeds[0]:.2f} to {speeds[-1]:.2f})  {' '.join(arguments.set)}"
        )


if __name__ == "__main__":
    main()
