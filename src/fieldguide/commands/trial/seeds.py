"""The seeds of a recipe in an experiment: their mean, and in what their trainings differ but for the seed."""

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
    """A row a recipe with the mean over its seeds, where several came to their end.

    Args:
        rows: of the table, a row a run.
        runs: that came to their end, by their names.
        failed: the names of those that came to none.
        recipe_of: of each name the recipe.

    Returns:
        The rows, and sentences about means that are not over seeds alone.
    """
    found, told = [], []
    for name in dict.fromkeys(recipe_of[run] for run in runs):
        own = [row for row in rows if recipe_of[row["method"]] == name]
        if len(own) < 2:
            continue
        unlike = _unlike([run for key, run in runs.items() if recipe_of[key] == name])
        lost = sum(recipe_of[key] == name for key in failed)
        unlike += [f"the loss of {lost} of {lost + len(own)} was not finite, and these are not in it"] if lost else []
        how = f"its trainings were not alike ({'; '.join(unlike)}), so it is no mean over seeds alone"
        found.append(seeds_row(name, own, how if unlike else ""))
        told += [f"{found[-1]['method']}: {how}"] if unlike else []
    return found, told


def _unlike(runs: Sequence[Run]) -> list[str]:
    """In what the trainings of a recipe differ but for their seeds.

    They do where the first seed was lost and planned anew, and where the time was up in some of them.
    """
    fields = [_fields(read_draft(RunFolder(run.path).recipe).demand(), run.result) for run in runs]
    differ = [field for field in fields[0] if any(other[field] != fields[0][field] for other in fields)]
    cut = sum(bool(run.result.get("out_of_time")) for run in runs)
    found = [f"{', '.join(differ)} differ"] if differ else []
    return found + ([f"the time was up in {cut} of {len(runs)}"] if 0 < cut < len(runs) else [])


def _fields(recipe: Recipe, result: Mapping[str, Any]) -> dict[str, Any]:
    """What decided a training, by the names of its fields in two levels; without its seed."""
    found: dict[str, Any] = {}
    for section, value in recipe.model_dump(mode="json").items():
        own = {f"{section}.{name}": field for name, field in value.items()} if isinstance(value, dict) else {}
        found |= own or {section: value}
    del found["training.seed"]
    return found | {"training.more_epochs": result.get("more_epochs", [])}
