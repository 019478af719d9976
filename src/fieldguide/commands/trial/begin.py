"""Starts a training: recipe, split and folder to a result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fieldguide import assemble
from fieldguide.commands.terminal.faults import explained
from fieldguide.commands.terminal.screen import SCREENS
from fieldguide.commands.trial.announce import announce
from fieldguide.commands.trial.carry_out import Run, carry_out, write_beginning
from fieldguide.commands.trial.live import Trial, assembled
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.data.look.value_range import decide
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.schema import AUTO
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback


def run_trial(
    name: str,
    recipe: ResolvedRecipe,
    prepared: Prepared,
    folder: Path,
    device: str,
    show: str = "terminal",
    *,
    workers: int | None = None,
    seconds: float | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """One training from recipe, split and folder to a result, within `seconds` from now on; None: the recipe's minutes.

    Its arguments are plain data that pickles (`show` is one of `SCREENS`; callbacks must pickle, too), and it leaves no
    global state behind, so that it can run in another process: there it gives the same run, bit for bit.

    Raises UsageError and writes nothing if a rule is broken, the weights do not fit, or another process uses the
    folder; TrainingError if the loss was not finite before an epoch ended, or a callback failed; MachineError if the
    disk or the memory is full (what was saved is kept).
    """
    run, screen = RunFolder(folder), SCREENS[show]()
    left = seconds_left(seconds_for(recipe.training.max_minutes) if seconds is None else seconds)
    prepared = replace(prepared, seen=prepared.seen.only(recipe.model.weights))
    recipe = with_reading(recipe, prepared)
    rules = assemble.hold_against_rules(recipe, len(prepared.split.classes), *_beyond_the_folder(prepared))
    with explained(run):
        made = assembled(recipe, prepared, device, screen, assemble.Outlook(left, prepared.short_side_px), workers)
    trial = Trial(name, made.recipe, prepared, run, device, made, rules, screen, left, callbacks)
    announce(trial)
    with explained(run), run.held():
        run.demand_nothing_in_it()
        write_beginning(trial)
        return carry_out(trial)


def with_reading(recipe: ResolvedRecipe, prepared: Prepared) -> ResolvedRecipe:
    """The recipe with the range of values and the fate of alpha bands that all training photos together decide."""
    data, measured = recipe.data, prepared.measured
    alpha = data.alpha if data.alpha != AUTO else "ignore" if measured.has_bands else "white"
    settled = {"value_range": decide(data.value_range, measured).to_dict(), "alpha": alpha}
    return recipe.model_copy(update={"data": data.model_copy(update=settled)})


def _beyond_the_folder(prepared: Prepared) -> tuple[int, list[str]]:
    """How many photos of other folders the first weights were trained on, and weights whose photos are unknown."""
    folder = {row.content_hash for row in prepared.split.rows}
    unknown = [source for before in prepared.seen.before.values() for source in before.unknown]
    return sum(content not in folder for content in prepared.seen.by), unknown


def seconds_for(minutes: float | None, began: float | None = None, trainings: int = 1) -> float | None:
    """The share of one of several trainings (itself included) in what is left of the command's minutes; None: no limit.

    The minutes began at `began` by `time.monotonic()`; None: now.
    """
    gone = 0.0 if began is None else time.monotonic() - began
    return None if minutes is None else (60 * minutes - gone) / trainings


def seconds_left(seconds: float | None) -> Callable[[], float] | None:
    """How much of the seconds is left, whenever it is asked; they begin now. None: no limit."""
    if seconds is None:
        return None
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()
