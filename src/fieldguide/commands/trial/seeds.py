"""The seeds of a recipe in an experiment: their mean, and how their trainings differ besides the seed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fieldguide.commands.trial.carry_out import Run
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.schema import Recipe
from fieldguide.report import comparison
from fieldguide.report.seeds import seeds_row
from fieldguide.run_folder import RunFolder


def means_of_seeds(
    rows: Sequence[comparison.Row], runs: Mapping[str, Run], failed: Collection[str], recipe_of: Mapping[str, str]
) -> tuple[list[comparison.Row], list[str]]:
    """One row per recipe with the mean over its seeds, if several finished.

    `failed` names the runs that did not finish, and `recipe_of` has the recipe of each name. Also returns sentences
    about means of trainings that differ in more than the seed.
    """
    found, told = [], []
    for name in dict.fromkeys(recipe_of[run] for run in runs):
        own = [row for row in rows if recipe_of[row["method"]] == name]
        if len(own) < 2:
            continue
        unlike = _unlike([run for key, run in runs.items() if recipe_of[key] == name])
        lost = sum(recipe_of[key] == name for key in failed)
        if lost:
            unlike.append(f"{lost} of {lost + len(own)} failed with a loss that is not finite, and are left out")
        how = f"these trainings differ in more than the seed ({'; '.join(unlike)})"
        found.append(seeds_row(name, own, how if unlike else ""))
        told += [f"{found[-1]['method']}: {how}"] if unlike else []
    return found, told


def _unlike(runs: Sequence[Run]) -> list[str]:
    """How the trainings of a recipe differ: the first seed was lost and planned again, or some ran out of time."""
    fields = [_fields(read_draft(RunFolder(run.path).recipe).demand(), run.result) for run in runs]
    differ = [field for field in fields[0] if any(other[field] != fields[0][field] for other in fields)]
    cut = sum(bool(run.result.get("out_of_time")) for run in runs)
    found = [f"{', '.join(differ)} differ"] if differ else []
    return found + ([f"{cut} of {len(runs)} ran out of time"] if 0 < cut < len(runs) else [])


def _fields(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a training, by name on two levels, without its seed."""
    found: dict[str, Any] = {}
    for section, value in recipe.model_dump(mode="json").items():
        own = {f"{section}.{name}": field for name, field in value.items()} if isinstance(value, dict) else {}
        found |= own or {section: value}
    del found["training.seed"]
    return found | {"training.more_epochs": result.get("more_epochs", [])}
