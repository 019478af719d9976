"""`fieldguide import`: a checkpoint that another program trained, as a bundle that can be judged and predicted with."""

from dataclasses import dataclass
from pathlib import Path

from fieldguide import assemble
from fieldguide.errors import UsageError, counted
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import count_parameters, make_classifier
from fieldguide.model.description import Description
from fieldguide.model.stranger import fill_whole
from fieldguide.recipe.lives import PlannedRecipe
from fieldguide.recipe.load import read_recipe
from fieldguide.recipe.overrides import Overrides
from fieldguide.recipe.schema import AUTO
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_text


@dataclass(frozen=True)
class Imported:
    """A bundle that was made of another program's checkpoint.

    Attributes:
        path: the folder; `path/bundle` is the model.
        classes: in the order of the network's outputs.
        parameters: `total`, `backbone`, `head`.
        remarks: what a person should know.
    """

    path: Path
    classes: tuple[str, ...]
    parameters: dict[str, int]
    remarks: tuple[str, ...]


def import_checkpoint(
    file: str | Path, recipe: str | Path, classes: str | Path, output: str | Path, *, overrides: Overrides = ()
) -> Imported:
    """Makes a bundle of a state dict of the recipe's network and head; nothing is trained, and no photo is read.

    Args:
        file: .safetensors, or .pth and .pt with a state dict, alone or under `state_dict`, `model` or
            `model_state_dict`.
        recipe: preset or file with its network, head and preprocessing.
        classes: a text file with one class per line, in the order of the network's outputs.
        output: folder for the bundle; must not exist yet.
        overrides: as for `train`.

    Raises:
        UsageError: the file does not fill the whole network, or the classes are not as many as its outputs.
    """
    run, asked = RunFolder(Path(output)), read_recipe(recipe, overrides)
    problems = [problem] if (problem := run.problem_with_making()) else []
    if not Path(file).is_file():
        problems.append(f"{file}: {'is a folder' if Path(file).is_dir() else 'no such file'}; give a state dict")
    if asked.model.backbone == AUTO:
        problems.append("model.backbone: auto has no network yet; name the network that was trained")
    names: tuple[str, ...] = ()
    try:
        names = read_classes(Path(classes))
    except UsageError as error:
        problems += error.problems
    if problems:
        raise UsageError(*problems)
    made = assemble.resolved(asked)
    if not isinstance(made, PlannedRecipe):
        raise UsageError(f"--recipe {recipe}: plans its image size on the machine; give a recipe without a plan")
    described = assemble.architecture(made, len(names))
    model = make_classifier(described)
    not_used = fill_whole(model, Path(file))
    preprocessing = assemble.served_preprocessing_of(made)
    run.path.mkdir(parents=True, exist_ok=True)
    about = Description(described, names, preprocessing.to_dict(), None, max_megapixels=made.data.max_megapixels)
    write_bundle(run.bundle, about, model.state_dict())
    unused = (f"not used: {counted(len(not_used), 'tensor')} such as {not_used[0]}",) if not_used else ()
    return Imported(run.path, names, count_parameters(model), (*unused, *_about_order(names)))


def read_classes(path: Path) -> tuple[str, ...]:
    """One class per line; raises UsageError that names each empty or repeated line, or says why it cannot be read."""
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
    except OSError as error:
        raise UsageError(f"--classes {path}: cannot be read ({error.strerror})") from None
    names = [line.strip() for line in lines]
    first: dict[str, int] = {}
    problems = []
    for number, name in enumerate(names, start=1):
        if not name:
            problems.append(f"--classes {path}: line {number} is empty")
        elif name in first:
            problems.append(f"--classes {path}: line {number} repeats {name} of line {first[name]}")
        first.setdefault(name, number)
    if len(names) < 2 and not problems:
        problems.append(f"--classes {path}: has {counted(len(names), 'line')}; write one class per line")
    if problems:
        raise UsageError(*problems[:20])
    return tuple(names)


def _about_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The trap of numbered folders: torchvision's ImageFolder sorts them as text."""
    if list(names) == sorted(names) or not all(name.isdecimal() for name in names):
        return ()
    if list(names) != sorted(names, key=int):
        return ()
    return (
        "the classes are in the order of their numbers, but torchvision's ImageFolder sorts names as text (0, 1, 10, "
        "11, 2): if the network was trained with it, sort the file as text; fieldguide evaluate shows which is right",
    )
