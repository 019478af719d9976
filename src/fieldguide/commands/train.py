"""`fieldguide train`: from a folder of photos to a run."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.commands.trial.begin import run_trial, seconds_for, seconds_left
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.choose_backbone import measured_backbone
from fieldguide.commands.trial.cross_validation import cross_validate, settled_as_first_fold
from fieldguide.commands.trial.prepare import Prepared, demand_request, prepare
from fieldguide.data.look.source import as_source
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.overrides import Overrides, listed
from fieldguide.recipe.schema import Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback, demand_callbacks
from fieldguide.world import Device

NOT_IN_FOLDS = "model.backbone: auto measures nothing with split.folds, where each photo validates; it is"


def train(
    photos: str | Path,
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    output: str | Path = "runs/run",
    *,
    overrides: Overrides = (),
    weights: str | Path | None = None,
    device: Device = "auto",
    minutes: float | None = None,
    photos_folder: str | Path | None = None,
    columns: str | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    began: float | None = None,
) -> Run:
    """Trains a classifier on a folder of photos.

    Args:
        photos: folder with `train/CLASS/*`, optionally `val/` and `test/`, or `CLASS/*` directly; a table of labels
            (CSV, TSV, Parquet, JSON lines, COCO Camera Traps); or a .zip or .tar of such a folder.
        recipe: a preset's name, a YAML file, or a `Recipe`.
        output: folder for the run; must not exist yet. With `split.folds` it holds one run per fold.
        overrides: fields of the recipe: `{"training": {"max_epochs": 5}}`, `{"training.max_epochs": 5}`, or a list of
            `"training.max_epochs=5"` as for `--set`.
        weights: short for `model.weights`: `hub`, `none`, a file, or an earlier run.
        device: `auto`, `cpu`, `cuda:N`, `mps` or a `torch.device`.
        minutes: short for `training.max_minutes`: time limit for the whole command.
        photos_folder: where the photos of a table are; None: beside the table.
        columns: the columns of a table, such as `label=species,group=camera`; None: found by name.
        quiet: show nothing.
        callbacks: are told what happens. If one raises an exception, the training ends after its step, all saved.
        began: when the minutes began, by `time.monotonic()`; None: now.

    Returns:
        The run. A signal ends the training after its step: all is saved, and the best model so far is judged.

    Raises:
        UsageError: wrong recipe, paths or weights; all mistakes in one message.
        Interrupted: a signal came before the first epoch ended, or a second SIGINT; what was saved is kept.
        MachineError: the disk is full, there is no memory; what was saved is kept.
        PhotosError: photos that cannot be used, each with its reason.
        TrainingError: the loss was not finite before the first epoch ended, or a callback failed.
    """
    began = time.monotonic() if began is None else began
    screen, device = Screen(quiet=quiet), str(device)
    warn_of_hidden_gpu(device, screen)
    source, run = as_source(photos, photos_folder, columns), RunFolder(Path(output))
    demand_callbacks(callbacks)
    if minutes is not None:
        overrides = (*listed(overrides), {"training.max_minutes": minutes})
    name, chosen, opened = demand_request(source, recipe, overrides, weights, device, [run], screen.say)
    left = seconds_left(seconds_for(chosen.training.max_minutes, began))
    candidates = [each.weights for each in opened.candidates] if opened else []
    prepared = prepare(source, chosen, screen, candidates, left)
    if opened is not None and chosen.split.folds is None:
        paths = {photo.file: photo.path for photo in prepared.folder.photos}
        seconds = None if left is None else left()
        chosen, tried = measured_backbone(opened, prepared.split, paths, device, screen, seconds)
        prepared = replace(prepared, backbones=tried)
    elif opened is not None:
        screen.say(f"{NOT_IN_FOLDS} {chosen.model.backbone}")

    def run_one(own: ResolvedRecipe, photos: Prepared, folder: RunFolder, trainings: int) -> Run:
        seconds = seconds_for(chosen.training.max_minutes, began, trainings)  # a plan's own recipe has no minutes
        return run_trial(name, own, photos, folder.path, device, screen.name, seconds=seconds, callbacks=callbacks)

    if chosen.split.folds is None:
        return run_one(chosen, prepared, run, 1)
    waiting = iter(range(chosen.split.folds, 0, -1))  # how many folds share what is left of the minutes

    def train_fold(of_fold: Prepared, fold: RunFolder) -> Run:
        return run_one(settled_as_first_fold(chosen, run), of_fold, fold, next(waiting))

    return cross_validate(name, chosen, prepared, run, screen, train_fold, device=device)
