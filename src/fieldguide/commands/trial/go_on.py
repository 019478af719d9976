"""Resumes a training with the photos, split and recipe that it began with."""

from collections.abc import Sequence
from dataclasses import replace

from fieldguide import assemble, world
from fieldguide.commands.terminal.faults import explained
from fieldguide.commands.terminal.screen import SCREENS, Screen
from fieldguide.commands.trial.announce import announce
from fieldguide.commands.trial.begin import seconds_for, seconds_left
from fieldguide.commands.trial.carry_out import Run, carry_out, write_rest_of_beginning
from fieldguide.commands.trial.live import WAITED, Trial, assembled
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.commands.trial.request import Request
from fieldguide.errors import UsageError, counted
from fieldguide.model.bundle import read_weights, write_bundle
from fieldguide.model.classifier import make_on_meta
from fieldguide.model.description import read_description
from fieldguide.model.weights import LoadedWeights
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.report.write import report as write_report
from fieldguide.run_folder import RunFolder
from fieldguide.storage import read_json
from fieldguide.training.checkpoint import best_weights_of, candidates_of, state_of
from fieldguide.training.checkpoint_files import Checkpoints, Found
from fieldguide.training.loop import Saved
from fieldguide.training.observers import Callback
from fieldguide.training.plan import More, next_stage
from fieldguide.training.state import State


def finished_before(run: RunFolder, screen: Screen) -> Run:
    """A finished run. Its figures stay; only the report, which is written last, may be missing."""
    screen.say(f"{run.path}: already finished")
    if not run.report.exists():
        with explained(run), run.held():
            write_report(run.path)
    return Run(run.path, run.read_result())


def go_on(
    request: Request,
    recipe: ResolvedRecipe,
    prepared: Prepared,
    run: RunFolder,
    device: str,
    show: str = "terminal",
    *,
    minutes: float | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """The rest of a training, with the recipe, photos and split that it began with.

    `show` is one of `SCREENS`, `minutes` a time limit shared with the other folds; None: the recipe's. Raises
    UsageError if the checkpoints are damaged, or another process is using the run.
    """
    screen = SCREENS[show]()
    bound = recipe.training.max_minutes if minutes is None else minutes
    outlook = assemble.Outlook(seconds_left(seconds_for(bound, trainings=recipe.split.folds or 1)))
    with explained(run), run.held():
        checkpoints = Checkpoints(run.checkpoints, recipe.training.checkpoint_every_minutes)
        found = checkpoints.newest(make_on_meta(assemble.architecture(recipe, len(prepared.split.classes))))
        _demand_whole(found, run, screen)
        loaded = LoadedWeights(**request.weights) if found.snapshot else None
        made = assembled(recipe, prepared, device, screen, outlook, loaded=loaded)
        made = replace(made, told=tuple(request.plan), compiling=request.compiling)
        name, rules, left = request.recipe_name, dict(request.rules), outlook.seconds_left
        trial = Trial(name, made.recipe, prepared, run, device, made, rules, screen, left, callbacks)
        write_rest_of_beginning(trial)
        _compare_machines(trial)
        announce(trial)
        return carry_out(trial, _saved(found, trial))


def _demand_whole(found: Found, run: RunFolder, screen: Screen) -> None:
    for sentence in found.damaged:
        screen.warn(f"{sentence}; using the one before" if found.snapshot else sentence)
    if found.damaged and found.snapshot is None:
        raise UsageError(
            *found.damaged,
            f"--resume {run.path}: all checkpoints are damaged; start a new run, from the best model if there is one: "
            f"fieldguide train PHOTOS --weights {run.path} -o ANOTHER",
        )


def _compare_machines(trial: Trial) -> None:
    """Warns where results may differ: they are the same, bit for bit, only on the same machine and versions."""
    now, before = world.describe_machine(world.choose_device(trial.device)), read_json(trial.run.environment)
    changed = [key for key in now if isinstance(before, dict) and before.get(key) != now[key]]
    if changed:
        trial.screen.warn(
            f"the run began on another machine or with other versions ({', '.join(changed)} differ), so results may "
            f"differ slightly; see {trial.run.environment}"
        )


def _saved(found: Found, trial: Trial) -> Saved | None:
    """What to resume, with history and bundle reset to it; None: no step was saved, so it starts over."""
    run, recipe, snapshot = trial.run, trial.recipe, found.snapshot
    if snapshot is None:
        if recipe.training.more_epochs is not None:
            raise _not_finished(run)
        trial.screen.say(f"{run.path}: no checkpoint yet; starting over")
        return None
    weights = read_weights(run.bundle, read_description(run.bundle)) if found.is_done else best_weights_of(snapshot)
    state = state_of(snapshot.plain["state"], trial.assembled.plan, weights, candidates_of(snapshot))
    trial.assembled.feed.waiting.go_on(snapshot.plain.get("beside", {}).get(WAITED, (0, 0)))
    if recipe.training.more_epochs is not None:
        _ask_for_more(state, recipe.training.more_epochs, found.is_done, trial)
    _set_results_aside(state, run)
    run.write_history([epoch.to_dict() for epoch in state.history])
    if state.best is not None and not found.is_done:
        write_bundle(run.bundle, trial.assembled.description, state.best.weights)
    trial.screen.say(f"{run.path}: resuming after {counted(len(state.history), 'epoch')}")
    return Saved(state, snapshot if "under_way" in snapshot.plain else None)


def _ask_for_more(state: State, epochs: int, is_done: bool, trial: Trial) -> None:
    """Adds a further stage; asked again while it runs, it is the same stage.

    Raises UsageError if the training, or other extra epochs, are not finished yet.
    """
    if not is_done:
        if not state.more or state.more[-1].epochs != epochs or len(state.ended) > state.more[-1].after_stages:
            raise _not_finished(trial.run)
        return
    if state.best is None or not state.ended:
        raise UsageError(f"--resume {trial.run.path}: there is no model to train longer")
    state.soup = None  # the earlier one is in the result that is set aside
    state.more.append(More(len(state.ended), epochs))
    state.out_of_time = False
    stage = next_stage(trial.assembled.plan, state.ended, state.more)
    assert stage is not None
    trial.checkpoints.extend(state)
    trial.screen.say(
        f"{epochs} more epochs as a further round, from the model of epoch {state.best.epoch.epoch}: learning rate "
        f"{stage.learning_rate:g} ({trial.recipe.training.rounds.learning_rate_factor:g} times the last stage's), "
        f"{stage.augmentation} augmentation, new optimiser, {trial.recipe.training.schedule} schedule; "
        "the model changes only if one of them is better"
    )


def _not_finished(run: RunFolder) -> UsageError:
    why = "is not finished, so you cannot add epochs yet"
    return UsageError(f"--resume {run.path}: {why}; resume it first: {run.command_to_go_on()}")


def _set_results_aside(state: State, run: RunFolder) -> None:
    """Renames the result of a finished training; the result of an interrupted one will be overwritten."""
    if run.is_finished and len(run.read_result().get("more_epochs", [])) < len(state.more):
        run.set_result_aside(len(state.more))
    run.report.unlink(missing_ok=True)
