"""`fieldguide train`: a folder of photos to a run."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.begin import run_trial, seconds_for
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.cross_validation import cross_validate, settled_as_first_fold
from fieldguide.commands.trial.prepare import demand_request, prepare
from fieldguide.data.look.findings import Remark
from fieldguide.data.split.partition import Split
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipe.overrides import Overrides, listed
from fieldguide.recipe.schema import Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback
from fieldguide.world import Device


def train(
    photos: str | Path,
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    output: str | Path = "runs/run",
    *,
    overrides: Overrides = (),
    weights: str | Path | None = None,
    device: Device = "auto",
    minutes: float | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    began: float | None = None,
) -> Run:
    """Trains a classifier on a folder of photos.

    Args:
        photos: holds `train/CLASS/*` with or without `val/` and `test/`, or `CLASS/*` directly.
        recipe: a preset's name, a YAML file, or a `Recipe`.
        output: the run's folder, which must not exist yet. With `split.folds`, it holds a run a fold.
        overrides: fields of the recipe: `{"training": {"max_epochs": 5}}`, `{"training.max_epochs": 5}`, or a list of
            `"training.max_epochs=5"` as for `--set`.
        weights: short for `model.weights`: `hub`, `none`, a file, or an earlier run.
        device: `auto`, `cpu`, `cuda:N` or a `torch.device`.
        minutes: short for `training.max_minutes`: all that the command may take.
        quiet: show nothing.
        callbacks: are told what happens (`fieldguide.Callback`). One that raises an exception ends the training after
            its step, with all saved.
        began: when the minutes began, by `time.monotonic()`; None: now.

    Returns:
        The run. A signal (SIGINT, SIGTERM, SIGHUP) ends the training after the step; all is saved, `resume` goes on,
        and the best model so far is judged.

    Raises:
        UsageError: wrong recipe, paths or weights, all mistakes in one message.
        Interrupted: a signal came before the first epoch ended, or a second SIGINT; what was saved is kept.
        MachineError: the disk is full, there is no memory; what was saved is kept.
        PhotosError: photos that stand in the way, each with its reason.
        TrainingError: the loss was not finite before the first epoch ended, or a callback failed.
    """
    began = time.monotonic() if began is None else began
    screen, device = Screen(quiet=quiet), str(device)
    root, run = Path(photos), RunFolder(Path(output))
    if minutes is not None:
        overrides = (*listed(overrides), f"training.max_minutes={minutes:g}")
    name, chosen = demand_request(root, recipe, overrides, weights, device, [run], screen.say)
    prepared = prepare(root, chosen, screen)
    if chosen.split.folds is None:
        seconds = seconds_for(chosen.training.max_minutes, began)
        return run_trial(name, chosen, prepared, run.path, device, screen.name, seconds=seconds, callbacks=callbacks)
    waiting = chosen.split.folds

    def train_fold(split: Split, fold: RunFolder, remarks: Sequence[Remark]) -> dict[str, Any]:
        nonlocal waiting
        of_fold = replace(prepared, split=split, remarks=tuple(remarks))
        settled = settled_as_first_fold(chosen, run)
        seconds = seconds_for(chosen.training.max_minutes, began, waiting)  # a plan's recipe has no minutes any more
        result = run_trial(
            name, settled, of_fold, fold.path, device, screen.name, seconds=seconds, callbacks=callbacks
        ).result
        waiting -= 1
        return result

    result = cross_validate(name, chosen, prepared, run, screen, train_fold, device=device)
    return Run(run.path, result)
