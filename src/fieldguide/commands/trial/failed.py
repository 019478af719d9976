"""Trainings whose loss was not finite: resuming would fail again, so they are reported and not retried."""

from fieldguide.commands.trial.request import write_recipe
from fieldguide.errors import NotFiniteError, UsageError
from fieldguide.recipe.schema import Recipe
from fieldguide.result_format import is_spoilt
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_text, write_text


def note_failure(run: RunFolder, recipe: Recipe, name: str, error: NotFiniteError) -> None:
    """Writes down the recipe of a training that gave no model, and why; its folder may hold nothing else."""
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.recipe.exists():
        write_recipe(run, recipe, name)
    write_text(run.failed, str(error).split("\n", 1)[0] + "\n")


def why_failed(run: RunFolder) -> str | None:
    """Why a training would fail again, None if it is finished or can resume; raises UsageError if it cannot be read."""
    if run.is_finished:
        return None
    if run.result.is_file() and is_spoilt(result := run.read_result()):
        return str(result["stopped"]["text"])
    try:
        return read_text(run.failed).strip() if run.failed.is_file() else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{run.failed}: cannot be read ({error})") from None
