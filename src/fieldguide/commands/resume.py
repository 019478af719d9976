"""`fieldguide train --resume`: resumes a run from its last checkpoint, or trains it longer."""

from collections.abc import Sequence
from pathlib import Path

from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.commands.trial.begin import run_trial, seconds_for
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.cross_validation import cross_validate, settled_as_first_fold
from fieldguide.commands.trial.go_on import finished_before, go_on
from fieldguide.commands.trial.prepare import Prepared, prepare
from fieldguide.commands.trial.request import Request, demand_same_recipe, read_request, same_photos
from fieldguide.data.look.find import problem_with_source
from fieldguide.data.look.source import Source
from fieldguide.errors import UsageError
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.overrides import Overrides
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback, demand_callbacks
from fieldguide.world import Device, choose_device
from fieldguide.world.processes import problem_with_device


def resume(
    run: str | Path,
    photos: str | Path | None = None,
    *,
    overrides: Overrides = (),
    device: Device | None = None,
    photos_folder: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Resumes a run; on a CPU and the same machine, the result is the same bit for bit as without interruption.

    Args:
        run: its folder.
        photos: where the photos (folder, table or archive) are now; None: where they were when it began.
        overrides: `training.checkpoint_every_minutes=N`; for a finished run `training.more_epochs=N`, which trains N
            epochs from the best model like a further round: at `training.rounds.learning_rate_factor` times the last
            stage's starting rate, with a new optimiser and schedule.
        device: None: as when it began.
        photos_folder: where the photos of a table are now; None: where they were.
        quiet: show nothing.
        callbacks: as for `train`.

    Raises:
        UsageError: there is nothing to resume, recipe or split have changed, or another process is using it.
        PhotosError: photos have changed or are missing since, each named.
        Interrupted, TrainingError, MachineError: as `train`.
    """
    screen, folder = Screen(quiet=quiet), RunFolder(Path(run))
    demand_callbacks(callbacks)
    request = read_request(folder)
    recipe = demand_same_recipe(folder, request, overrides)
    source, device = request.source(photos, photos_folder), str(device or request.device)
    warn_of_hidden_gpu(device, screen)
    if problem := problem_with_device(choose_device(device)):
        raise UsageError(problem)
    if problem := problem_with_source(source):
        raise UsageError(f"{problem}; say where the photos are now: fieldguide train PHOTOS --resume {folder.path}")
    if request.is_cross_validation:
        return _resume_folds(folder, request, recipe, source, device, screen, callbacks)
    if folder.is_finished and recipe.training.more_epochs is None:
        if not folder.report.exists():
            return finished_before(folder, screen)
        raise UsageError(
            f"--resume {folder.path}: is finished; to train it longer: {folder.command_to_go_on()} "
            "--set training.more_epochs=10"
        )
    prepared = same_photos(folder, request, source, recipe, screen)
    return go_on(request, recipe, prepared, folder, device, screen.name, callbacks=callbacks)


def _resume_folds(
    run: RunFolder,
    request: Request,
    recipe: ResolvedRecipe,
    source: Source,
    device: str,
    screen: Screen,
    callbacks: Sequence[Callback],
) -> Run:
    """Keeps finished folds, resumes an unfinished one, and trains the others."""
    if recipe.training.more_epochs is not None:
        raise UsageError(f"--resume {run.path}: a cross-validation takes no training.more_epochs; leave it out")
    if run.is_finished:
        raise UsageError(f"--resume {run.path}: is finished")
    prepared = prepare(source, recipe, screen)
    minutes = recipe.training.max_minutes  # a plan removes them from the folds' own recipes

    def train_fold(of_fold: Prepared, fold: RunFolder) -> Run:
        if fold.is_finished:
            return finished_before(fold, screen)
        if not fold.can_go_on:
            seconds = seconds_for(minutes, trainings=recipe.split.folds or 1)  # shared as when it began
            new = request.recipe_name, settled_as_first_fold(recipe, run), of_fold, fold.path, device, screen.name
            return run_trial(*new, seconds=seconds, callbacks=callbacks)
        asked = read_request(fold)
        saving = f"training.checkpoint_every_minutes={recipe.training.checkpoint_every_minutes}"
        own = demand_same_recipe(fold, asked, (saving,))  # values for `auto` are not measured again
        return go_on(asked, own, of_fold, fold, device, screen.name, minutes=minutes, callbacks=callbacks)

    return cross_validate(request.recipe_name, recipe, prepared, run, screen, train_fold, device=device)
