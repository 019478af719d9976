"""One trial of an experiment: finished before, resumed, or trained; here or in another process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldguide import assemble
from fieldguide.commands.submissions import evaluate_test, wants_test
from fieldguide.commands.terminal.screen import SCREENS, Screen
from fieldguide.commands.trial import experiment_folder
from fieldguide.commands.trial.begin import run_trial, seconds_for
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.failed import note_failure, why_failed
from fieldguide.commands.trial.go_on import finished_before, go_on
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.commands.trial.request import demand_same_recipe, read_request
from fieldguide.errors import NotFiniteError, UsageError
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.resolve import settled_as
from fieldguide.result_format import is_spoilt
from fieldguide.run_folder import RunFolder
from fieldguide.storage import is_empty
from fieldguide.training.observers import Callback

MOST_SEED = 2**63


@dataclass(frozen=True)
class Trial:
    """One training of an experiment; its recipe has the seed of the trial."""

    recipe_name: str
    recipe: ResolvedRecipe


@dataclass(frozen=True)
class Shared:
    """What all trials have in common; it pickles if the callbacks do."""

    prepared: Prepared
    device: str
    show: str  # one of `SCREENS`
    callbacks: Sequence[Callback]
    tried: Mapping[str, Mapping[str, Any]]  # what `model.backbone: auto` measured, by the name of the recipe

    @property
    def screen(self) -> Screen:
        """Where a trial says things."""
        return SCREENS[self.show]()


@dataclass
class Finished:
    """The runs of the trials that have one, why others never will, and the exit code if the rest has to wait."""

    runs: dict[str, Run] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


def trials_of(recipes: Mapping[str, ResolvedRecipe], seeds: int) -> dict[str, Trial]:
    """All trainings, by the name of their run. Only the seed of the training changes, not that of the split."""
    if seeds == 1:
        return {name: Trial(name, recipe) for name, recipe in recipes.items()}
    trials = {}
    for name, recipe in recipes.items():
        first = recipe.training.seed
        if first + seeds > MOST_SEED:
            raise UsageError(f"--seeds {seeds}: training.seed is {first}, and the last seed would be 2^63 or more")
        for seed in range(first, first + seeds):
            training = recipe.training.model_copy(update={"seed": seed})
            trials[f"{name}-seed{seed}"] = Trial(name, recipe.model_copy(update={"training": training}))
    return trials


def _settled_as(trial: Trial, first: RunFolder, screen: Screen) -> Trial:
    """With each `auto`, and the plan, as the first seed settled it, because a mean needs equal trainings."""
    if trial.recipe.training.plan == "auto" and trial.recipe.training.max_minutes is not None:
        screen.say(f"reusing {first.path.name}'s plan; the minutes limited only {first.path.name}")
    return replace(trial, recipe=settled_as(trial.recipe, assemble.resolved(read_draft(first.recipe).demand())))


def finish_or_fail(trial: Trial, first: RunFolder | None, run: RunFolder, shared: Shared) -> Run | str:
    """The run of the trial; or why it always fails, found now or in an earlier call."""
    why = why_failed(run)
    if why is not None:
        experiment_folder.demand_same_trial(run, trial.recipe)
    else:
        try:
            ended = _finish_trial(trial, first, run, shared)
        except NotFiniteError as error:
            note_failure(run, trial.recipe, trial.recipe_name, error)
        else:
            if not is_spoilt(ended.result):
                return ended
        why = why_failed(run)
        assert why is not None, "it was noted, or stands in the result"
    shared.screen.warn(
        f"{run.path}: {why}. It would fail again, so the experiment continues without it. To retrain it, move its "
        "folder away, or use another recipe with another name"
    )
    return why


def finish_here(
    trials: Mapping[str, Trial], folder: Path, shared: Shared, ended: Callable[[str, Run], None] = lambda *_: None
) -> Finished:
    """One trial after the other, in this process, until one has an exit code; `ended` gets each run as it ends."""
    found = Finished()
    for number, (name, trial) in enumerate(trials.items(), start=1):
        shared.screen.say(f"\ntrial {number} of {len(trials)}: {name}", style="bold")
        first = next((run for other, run in found.runs.items() if trials[other].recipe_name == trial.recipe_name), None)
        alike = None if first is None else RunFolder(first.path)
        run = finish_or_fail(trial, alike, RunFolder(folder / name), shared)
        if isinstance(run, str):
            found.failed[name] = run
        elif run.exit_code:
            found.exit_code = run.exit_code
            break
        else:
            found.runs[name] = run
            ended(name, run)
    return found


def _finish_trial(trial: Trial, first: RunFolder | None, run: RunFolder, shared: Shared) -> Run:
    """The run of the trial: as it is if finished, else resumed, else trained as the first seed was."""
    prepared, screen = shared.prepared, shared.screen
    if run.is_finished:
        experiment_folder.demand_same_trial(run, trial.recipe)
        finished = finished_before(run, screen)
    elif run.can_go_on:
        finished = _go_on(trial, run, shared)
    else:
        if run.path.exists() and not is_empty(run.path):
            aside = experiment_folder.free_name(run.path)
            run.path.rename(aside)
            screen.warn(f"{run.path} cannot be resumed: renamed to {aside}; the trial starts over")
        settled = trial if first is None else _settled_as(trial, first, screen)
        measured = shared.tried.get(trial.recipe_name)
        own = replace(prepared, backbones=measured)
        seconds = seconds_for(settled.recipe.training.max_minutes)
        if seconds is not None and measured is not None and first is None:  # the minutes limit the first seed
            seconds = max(0.0, seconds - measured["seconds"])
        asked = settled.recipe_name, settled.recipe, own, run.path, shared.device, shared.show
        finished = run_trial(*asked, seconds=seconds, callbacks=shared.callbacks)
    if not finished.exit_code and wants_test(finished.result["test"], prepared, screen):
        evaluate_test(run.path, prepared, shared.device, screen)
    return finished


def _go_on(trial: Trial, run: RunFolder, shared: Shared) -> Run:
    request = read_request(run)
    recipe = demand_same_recipe(run, request, ())
    experiment_folder.demand_same_trial(run, trial.recipe)
    if run.split.exists():
        experiment_folder.demand_same_split(run.split, shared.prepared.split)
    asked = request, recipe, shared.prepared, run, shared.device, shared.show
    return go_on(*asked, callbacks=shared.callbacks)
