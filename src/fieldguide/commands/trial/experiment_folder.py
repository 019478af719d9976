"""The folder of an experiment: whether it can start or resume there, its split, and earlier choices."""

import glob
from pathlib import Path

from fieldguide import assemble
from fieldguide.data.split.partition import Split, read_split, write_split
from fieldguide.errors import UsageError
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft, to_yaml
from fieldguide.recipe.overrides import Overrides, listed
from fieldguide.recipe.resolve import as_planned, settled_as
from fieldguide.recipe.schema import AUTO
from fieldguide.run_folder import RunFolder
from fieldguide.storage import is_there, problem_with_output_file

SPLIT_FILE = "split.csv"
SUBMISSIONS = "submissions"  # a folder; no run has this name


def outputs_of(folder: Path) -> list[RunFolder]:
    """The folders that must be free: this one, or none if it holds an experiment to resume.

    Raises UsageError if it is a file, or an experiment that cannot be written.
    """
    if is_there(folder) and not folder.is_dir():
        raise UsageError(f"-o {folder}: is a file; choose another name for the experiment folder")
    split = folder / SPLIT_FILE
    if not is_there(split) or RunFolder(folder).owns(SPLIT_FILE):  # a run has a split, too
        return [RunFolder(folder)]
    if problem := problem_with_output_file(split):
        raise UsageError(f"-o {split}: {problem}")
    return []


def demand_same_split(path: Path, split: Split) -> None:
    """Writes the split if there is none yet; raises UsageError if there is another one."""
    if not path.exists():
        write_split(path, split)
    elif read_split(path).fingerprint() != split.fingerprint():
        raise UsageError(f"{path}: photos or split changed since this experiment began; choose another -o")


def demand_same_trial(run: RunFolder, recipe: ResolvedRecipe) -> None:
    """Raises UsageError if the recipe is not the one that the trial began with."""

    def fields(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#")]

    there = assemble.resolved(read_draft(run.recipe).demand())
    alike = (recipe, settled_as(recipe, there))  # a trial that failed early has the recipe as requested
    if fields(to_yaml(as_planned(there))) not in [fields(to_yaml(as_planned(each))) for each in alike]:
        what_now = "was trained with another recipe or other --set; choose another -o or move it away"
        raise UsageError(f"{run.path}: {what_now}")


def with_backbone_of_before(
    folder: Path, recipe: str | Path, overrides: Overrides, weights: str | None
) -> tuple[Overrides, str | None, str]:
    """The overrides and weights with the backbone that `auto` was when this recipe's trials began, and a sentence.

    It is not chosen again, because this machine may now measure slightly faster or slower.
    """
    draft = read_draft(recipe, overrides, weights)
    if draft.problems or draft.recipe.model.backbone != AUTO:
        return overrides, weights, ""
    trials = [folder / draft.name, *sorted(folder.glob(f"{glob.escape(draft.name)}-seed*"))]
    files = [RunFolder(trial).recipe for trial in trials if RunFolder(trial).recipe.is_file()]
    if not files:
        return overrides, weights, ""
    model = read_draft(files[0]).demand().model
    told = f"model.backbone: auto is {model.backbone}, as in {files[0].parent}"
    return (*listed(overrides), f"model.backbone={model.backbone}"), model.weights, told


def free_name(path: Path) -> Path:
    """A name for a run that is moved out of the way."""
    number = 1
    while (found := path.with_name(f"{path.name}.unfinished-{number}")).exists():
        number += 1
    return found
