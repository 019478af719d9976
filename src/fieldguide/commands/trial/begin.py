"""A training from its recipe, split and folder to a result."""

import time
from collections.abc import Callable
from dataclasses import replace

from fieldguide import assemble, world
from fieldguide.commands.terminal.faults import explained
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.announce import announce
from fieldguide.commands.trial.carry_out import Run, Trial, carry_out, write_beginning
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.data.split.partition import Split
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.run_folder import RunFolder


def run_trial(
    name: str,
    recipe: ResolvedRecipe,
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
        recipe: what to train.
        prepared: photos and split.
        run: where to; made here.
        device: as the user named it.
        screen: where to show it.
        workers: processes that load photos; None: chosen by the machine.
        began: when the minutes began, by `time.monotonic()`; None: now.
        minutes: that bound it; None: those of the recipe.
        trainings: so many share what is left of them, this one included.

    Raises:
        UsageError: a rule is broken, the weights do not fit, or another process is using it; nothing was written.
        TrainingError: the loss was not finite before an epoch ended.
        MachineError: the disk is full, there is no memory; what was saved is kept.
    """
    began = time.monotonic() if began is None else began
    chosen_device = world.choose_device(device)
    left = seconds_left(recipe.training.max_minutes if minutes is None else minutes, began, trainings)
    prepared = replace(prepared, seen=prepared.seen.only(recipe.model.weights))
    rules = assemble.hold_against_rules(recipe, len(prepared.split.classes), *_beyond_the_folder(prepared))
    paths = {photo.file: photo.path for photo in prepared.folder.photos}
    with explained(run), screen.counting("caching photos", cached_photos(prepared.split)) as advance:
        assembled = assemble.assemble(
            recipe,
            prepared.split,
            paths,
            chosen_device,
            workers,
            tell=screen.warn,
            advance=advance,
            outlook=assemble.Outlook(left, prepared.short_side_px),
            read=prepared.contents.again,
        )
    prepared.contents.clear()
    trial = Trial(name, assembled.recipe, prepared, run, device, assembled, rules, screen, left)
    announce(trial)
    with explained(run), run.held():
        run.demand_nothing_in_it()
        write_beginning(trial)
        return carry_out(trial)


def cached_photos(split: Split) -> int:
    """How many photos a fast training caches."""
    return len(split.part("train")) + len(split.part("val"))


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
