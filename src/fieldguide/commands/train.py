"""`fieldguide train`: a folder of photos to a run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldguide import assemble, world
from fieldguide.commands.announce import announce
from fieldguide.commands.cross_validate import cross_validate, settled_as_first_fold
from fieldguide.commands.display import Screen
from fieldguide.commands.faults import explained
from fieldguide.commands.prepare import Prepared, demand_request, prepare
from fieldguide.commands.trial import Run, Trial, carry_out, write_beginning
from fieldguide.data.split import Split
from fieldguide.recipe import DEFAULT_RECIPE
from fieldguide.recipe.schema import Recipe
from fieldguide.run_folder import RunFolder


def train(
    photos: str | Path,
    recipe: str | Path = DEFAULT_RECIPE,
    output: str | Path = "runs/run",
    *,
    overrides: Sequence[str] = (),
    weights: str | Path | None = None,
    device: str = "auto",
    minutes: float | None = None,
    quiet: bool = False,
    began: float | None = None,
) -> Run:
    """Trains a classifier on a folder of photos.

    Args:
        photos: holds `train/CLASS/*` with or without `val/` and `test/`, or `CLASS/*` directly.
        recipe: a preset's name or a YAML file.
        output: the run's folder, which must not exist yet. With `split.folds`, it holds a run a fold.
        overrides: `field.name=value` each, as the command line's `--set`.
        weights: short for `model.weights`: `hub`, `none`, a file, or an earlier run.
        device: `auto`, `cpu` or `cuda:N`.
        minutes: short for `training.max_minutes`: all that the command may take.
        quiet: show nothing.
        began: when the minutes began, by `time.monotonic()`; None: now.

    Returns:
        The run. A signal (SIGINT, SIGTERM, SIGHUP) ends the training after the step; all is saved, `resume` goes on,
        and the best model so far is judged.

    Raises:
        UsageError: wrong recipe, paths or weights, all mistakes in one message.
        Interrupted: a signal came before the first epoch ended, or a second SIGINT; what was saved is kept.
        MachineError: the disk is full, there is no memory; what was saved is kept.
        PhotosError: photos that stand in the way, each with its reason.
        TrainingError: the loss was not finite before the first epoch ended.
    """
    began = time.monotonic() if began is None else began
    screen = Screen(quiet=quiet)
    root, run = Path(photos), RunFolder(Path(output))
    if minutes is not None:
        overrides = (*overrides, f"training.max_minutes={minutes:g}")
    name, chosen = demand_request(root, recipe, overrides, weights, device, [run], screen.say)
    prepared = prepare(root, chosen, screen)
    if chosen.split.folds is None:
        return run_trial(name, chosen, prepared, run, device, screen, began=began)
    waiting = chosen.split.folds

    def train_fold(split: Split, fold: RunFolder, remarks: Sequence[str]) -> dict[str, Any]:
        nonlocal waiting
        of_fold = replace(prepared, split=split, remarks=tuple(remarks))
        settled = settled_as_first_fold(chosen, run)
        minutes = chosen.training.max_minutes  # a plan's recipe has none any more
        result = run_trial(
            name, settled, of_fold, fold, device, screen, began=began, minutes=minutes, trainings=waiting
        ).result
        waiting -= 1
        return result

    result = cross_validate(name, chosen, prepared, run, screen, train_fold, device=device)
    return Run(run.path, result)


def run_trial(
    name: str,
    recipe: Recipe,
    prepared: Prepared,
    run: RunFolder,
    device: str,
    screen: Screen,
    workers: int | None = None,
    began: float | None = None,
    minutes: float | None = None,
    trainings: int = 1,
) -> Run:
    """One training from recipe, split and folder to a result; no state is shared between two of them.

    Args:
        name: the recipe's.
        recipe: resolved.
        prepared: photos and split.
        run: where to; made here.
        device: as the user named it.
        screen: where to show it.
        workers: processes that load photos; None: chosen by the machine.
        began: when the minutes began, by `time.monotonic()`; None: now.
        minutes: that bound it; None: those of the recipe.
        trainings: so many share what is left of them, this one included.

    Raises:
        UsageError: a rule is broken, the weights do not fit, or another process is at work there; nothing was written.
        TrainingError: the loss was not finite before an epoch ended.
        MachineError: the disk is full, there is no memory; what was saved is kept.
    """
    began = time.monotonic() if began is None else began
    chosen_device = world.choose_device(device)
    left = seconds_left(recipe.training.max_minutes if minutes is None else minutes, began, trainings)
    prepared = replace(prepared, seen=prepared.seen.only(recipe.model.weights))
    rules = assemble.hold_against_rules(recipe, len(prepared.split.classes), *_beyond_the_folder(prepared))
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    with explained(run), screen.counting("caching photos", len(prepared.split.part("train"))) as advance:
        assembled = assemble.assemble(
            recipe,
            prepared.split,
            paths,
            chosen_device,
            workers,
            tell=screen.warn,
            advance=advance,
            outlook=assemble.Outlook(left, prepared.short_side_px),
        )
    trial = Trial(name, assembled.recipe, prepared, run, device, assembled, rules, screen, left)
    announce(trial)
    with explained(run), run.held():
        run.demand_nothing_in_it()
        write_beginning(trial)
        return carry_out(trial)


def _beyond_the_folder(prepared: Prepared) -> tuple[int, list[str]]:
    """How many photos of other folders the first weights were trained on, and weights of which nobody can tell."""
    folder = {row.content_hash for row in prepared.split.rows}
    unknown = [source for before in prepared.seen.before.values() for source in before.unknown]
    return sum(content not in folder for content in prepared.seen.by), unknown


def seconds_left(minutes: float | None, began: float, trainings: int = 1) -> Callable[[], float] | None:
    """How much of the minutes is left for each of so many trainings, whenever it is asked; None: no bound."""
    if minutes is None:
        return None
    share_from = time.monotonic()
    mine = (60 * minutes - (share_from - began)) / trainings
    return lambda: mine - (time.monotonic() - share_from)
