"""`fieldguide search`: which recipe fields are best for these photos, and whether that beats `auto`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldguide import assemble
from fieldguide.cluster.jobs import SLURM, Share, demand_place
from fieldguide.cluster.ray_search import Report, Tried, Wanted
from fieldguide.cluster.ray_search import search as tune
from fieldguide.commands.search_ends import Ended, about_trials, ended
from fieldguide.commands.terminal.interrupts import ending_at_once
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.commands.trial.experiment_recipes import measured_recipes
from fieldguide.commands.trial.prepare import Prepared, demand_request, prepare
from fieldguide.commands.trials import Shared, Trial, finish_or_fail
from fieldguide.data.look.source import Source, as_source
from fieldguide.data.split.halves import halves
from fieldguide.data.split.partition import write_split
from fieldguide.errors import TrainingError, UsageError, counted, duration
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.overrides import Overrides, fields_of, listed
from fieldguide.recipe.space import DEFAULT, Choice, Space, first_values, has_choice, probes, read_space
from fieldguide.run_folder import RunFolder
from fieldguide.storage import problem_with_output_folder, read_json, write_json
from fieldguide.training.observers import Callback
from fieldguide.training.state import Epoch, State
from fieldguide.world import Device

BASE, BACKBONE = "auto", "model.backbone"
ASKED_FILE, TRIED_FILE, SPLIT_FILE = "search.json", "tried.json", "split.csv"
TRIALS = "trials"
SHARE_OF_SEARCH = 0.5  # of the minutes; the winner's trainings with other seeds take the rest


def search(
    photos: str | Path,
    output: str | Path,
    *,
    space: str | Path = DEFAULT,
    minutes: float = 120,
    trials: int | None = None,
    recipe: str | Path = BASE,
    seeds: int = 3,
    overrides: Overrides = (),
    weights: str | Path | None = None,
    device: Device = "auto",
    on: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
    photos_folder: str | Path | None = None,
    columns: str | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Ended:
    """Searches the space, trains the winner with fresh seeds, and holds it against `auto` in as many minutes.

    Half of the validation photos choose: epochs, trials, the winner. The other half judges, and is looked at once.

    Args:
        photos, weights, device, photos_folder, columns: as for `train`.
        output: a new folder.
        space: a YAML file of fields with values or ranges (docs/search.md), or `default`.
        minutes: half of them for the search, the rest for the winner's trainings; `auto` gets as many.
        trials: at most so many; None: as many as the time allows.
        recipe: what the space does not say.
        seeds: trainings of the winner, with seeds that the search did not use.
        overrides: for each trial and for `auto`, as for `train`; rules among them bound the space.
        on, cpus_per_trial, gpus_per_trial: as for `experiment`, without Slurm; None: one trial at a time, here.
        resume: goes on with an interrupted search of this folder.
        quiet: show nothing.

    Raises:
        UsageError: a field that the recipe would ignore, a value that breaks a rule, wrong paths or options.
        PhotosError: problems with the photos, or too few for two halves of validation.
        TrainingError: no trial gave a model.
    """
    screen, folder, device = Screen(quiet=quiet), Path(output).resolve(), str(device)
    warn_of_hidden_gpu(device, screen)
    demand_place("ray" if on is None else on)
    share = Share(cpus_per_trial, gpus_per_trial)
    _demand(on, share, minutes, trials, seeds)
    source, fields = as_source(photos, photos_folder, columns), _searched_fields(space, overrides, screen)
    start = None if weights is None else str(weights)
    asked = {"space": _plain(fields), "recipe": str(recipe), "overrides": list(map(str, listed(overrides)))}
    if resume:
        if read_json(folder / ASKED_FILE) != asked:
            raise UsageError(f"--resume: {folder} is of another space, recipe or --set; choose another -o")
    elif problem := problem_with_output_folder(folder):
        raise UsageError(f"-o {problem}; choose another folder, or go on with --resume")
    _demand_space(fields, recipe, overrides, start)
    first = (*listed(overrides), first_values(fields))
    _, made, _ = demand_request(source, recipe, first, start, device, [], screen.say)
    prepared, judging = _halved(prepare(source, made, screen, [made.model.weights]))
    _demand_rules(fields, recipe, overrides, start, prepared)
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder / SPLIT_FILE, prepared.split)
    write_json(folder / ASKED_FILE, asked)
    shared = Shared(prepared, device, "quiet", (), {})
    work = _Training(shared, folder / TRIALS, recipe, tuple(listed(overrides)), start)
    seconds = 60 * minutes * SHARE_OF_SEARCH
    began = time.monotonic()
    tried = _searched(work, _wanted(fields, made, seconds, trials), folder, on, share, resume=resume, screen=screen)
    searched = seconds if resume else time.monotonic() - began  # the searches before had what is left of it
    winner = _winner(tried)
    screen.say(about_trials(winner, tried, fields))
    given: Any = {"seconds": searched, "minutes": minutes, "seeds": seeds, "on": on, "share": share}
    given["auto"], measured = _auto(source, overrides, start, prepared, device, minutes, screen)
    shared = replace(shared, show=screen.name, tried=measured)
    return ended(winner, work.recipe_of(winner.values), prepared, judging, folder, shared, screen, **given)


def _demand(on: str | None, share: Share, minutes: float, trials: int | None, seeds: int) -> None:
    problems = []
    if on == SLURM:
        problems.append("--on slurm: a search runs on Ray; give --on ray, or leave it out")
    if not 0 < minutes <= 1_000_000:
        problems.append(f"--minutes {minutes:g}: must be above 0")
    if trials is not None and trials < 1:
        problems.append(f"--trials {trials}: must be 1 or more")
    if not 1 <= seeds <= 100:
        problems.append(f"--seeds {seeds}: must be from 1 to 100")
    if on is None and share != Share():
        problems.append("--cpus-per-trial, --gpus-per-trial: are for --on; leave them out")
    if problems:
        raise UsageError(*problems)
    share.demand("trial")


def _searched_fields(space: str | Path, overrides: Overrides, screen: Screen) -> Space:
    """The space without the fields that `--set` fixes."""
    fields = read_space(space)
    fixed = sorted(fields_of(overrides) & set(fields))
    left = {name: domain for name, domain in fields.items() if name not in fixed}
    if not has_choice(left):
        raise UsageError(f"--space {space}: --set fixes {', '.join(fixed)}, so there is nothing to search")
    if fixed:
        screen.say(f"fixed by --set, so not searched: {', '.join(fixed)}")
    return left


def _demand_space(fields: Space, recipe: str | Path, overrides: Overrides, weights: str | None) -> None:
    """Raises UsageError for each value that no recipe takes, or that this one would ignore."""

    def problems_of(values: Mapping[str, Any]) -> list[str]:
        draft = read_draft(recipe, (*listed(overrides), values), weights)
        if draft.problems:
            return list(draft.problems)
        if draft.recipe.training.plan is not None:
            return ["training.plan must be null; a plan would choose in place of the search"]
        try:
            assemble.demand_no_contradiction(assemble.resolved(draft.recipe))
        except UsageError as error:
            return list(error.problems)
        return assemble.problems_with_model(draft.recipe)

    if found := problems_of(first_values(fields)):
        raise UsageError(*(f"--space, with the first value of each field: {problem}" for problem in found))
    problems = []
    for field, value, values in probes(fields):
        problems += [f"--space: {field}: {value}: {problem}" for problem in problems_of(values)]
    if problems:
        raise UsageError(*dict.fromkeys(problems))


def _demand_rules(
    fields: Space, recipe: str | Path, overrides: Overrides, weights: str | None, prepared: Prepared
) -> None:
    """Raises UsageError for each value that breaks a rule of the recipe, and each backbone without weights."""
    problems = []
    of_network = {name: of for name, of in fields.items() if name.startswith(("model.", "data."))}
    for field, value, values in probes(of_network):
        rest = first_values(fields) | values
        resolved = assemble.resolved(read_draft(recipe, (*listed(overrides), rest), weights).demand())
        demand = assemble.demand_before_photos if field == BACKBONE else assemble.hold_against_rules
        try:
            demand(resolved, len(prepared.split.classes), 0)
        except UsageError as error:
            what = f"; choose with --set {field}=NAME" if field == BACKBONE else ""
            problems += [f"--space: {field}: {value}: {problem}{what}" for problem in error.problems]
    if problems:
        raise UsageError(*dict.fromkeys(problems))


def _halved(prepared: Prepared) -> tuple[Prepared, list[Any]]:
    split, judging = halves(prepared.split, prepared.groups)
    return replace(prepared, split=split), judging


def _plain(fields: Space) -> dict[str, Any]:
    return {
        name: list(of.values) if isinstance(of, Choice) else [of.low, of.high, of.is_log] for name, of in fields.items()
    }


def _wanted(fields: Space, made: ResolvedRecipe, seconds: float, trials: int | None) -> Wanted:
    choices = {name: of.values for name, of in fields.items() if isinstance(of, Choice)}
    ranges = {
        name: (of.low, of.high, of.is_log, of.is_whole) for name, of in fields.items() if not isinstance(of, Choice)
    }
    most = min(sum(phase.max_epochs for phase in made.training.phases), made.training.max_epochs or 2**31)
    return Wanted(choices, ranges, most, seconds, trials, made.training.seed)


def _searched(
    work: "_Training", wanted: Wanted, folder: Path, on: str | None, share: Share, *, resume: bool, screen: Screen
) -> list[Tried]:
    """All trials, tried now or before; they are listed in a file once the search is over."""
    file, names = folder / TRIED_FILE, folder / TRIALS
    if resume and file.exists():
        screen.say("the search is over; going on with the winner")
        return [Tried(**each) for each in read_json(file)]
    fields = sum(len(values) > 1 for values in wanted.choices.values()) + len(wanted.ranges)
    screen.say(f"searching for {duration(wanted.seconds)}: {counted(fields, 'field')}")

    def what_now() -> str:
        count = len(list(names.iterdir())) if names.exists() else 0
        kept = f"{counted(count, 'trial')} are kept in {folder}"
        return f"{kept}; go on with: fieldguide search (the same arguments) --resume"

    with ending_at_once(what_now):
        tried = tune(work, wanted, folder, on, share, resume=resume, tell=screen.say)
    write_json(file, [vars(each) for each in tried])
    return tried


def _winner(tried: Sequence[Tried]) -> Tried:
    """Raises TrainingError if no trial finished an epoch."""
    if tried and tried[0].accuracy is not None:
        return tried[0]
    why = f"; the first: {tried[0].why}" if tried else ""
    raise TrainingError(f"none of {counted(len(tried), 'trial')} finished an epoch{why}. Give more --minutes")


def _auto(
    source: Source,
    overrides: Overrides,
    weights: str | None,
    prepared: Prepared,
    device: str,
    minutes: float,
    screen: Screen,
) -> tuple[ResolvedRecipe, Mapping[str, Mapping[str, Any]]]:
    """The recipe that the winner is held against, and what its backbones were measured at."""
    own = (*listed(overrides), {"training.max_minutes": minutes})
    name, made, opened = demand_request(source, BASE, own, weights, device, [], screen.say)
    if opened is None:
        return made, {}
    settled, measured = measured_recipes({name: opened}, prepared, device, screen)
    return settled[name], measured


@dataclass(frozen=True)
class _Training:
    """One trial, in a process of its own; it pickles."""

    shared: Shared
    folder: Path
    recipe: str | Path
    overrides: tuple[Any, ...]
    weights: str | None

    def recipe_of(self, values: Mapping[str, Any]) -> ResolvedRecipe:
        """The recipe with the values of a trial; raises UsageError if they do not go together."""
        draft = read_draft(self.recipe, (*self.overrides, values), self.weights)
        made = assemble.resolved(draft.demand())
        assemble.demand_no_contradiction(made)
        return made

    def __call__(self, name: str, values: Mapping[str, Any], report: Report) -> None:
        """Trains, or goes on; a loss that is not finite ends it."""
        told, run = _Reporting(report), RunFolder(self.folder / name)
        shared = replace(self.shared, callbacks=[told])
        ended = finish_or_fail(Trial(name, self.recipe_of(values)), None, run, shared)
        if isinstance(ended, str):
            raise TrainingError(ended)
        if not told.has_told:  # it had ended before the search was killed, which may not have heard of it
            accuracies = [epoch["validation"]["accuracy"] for epoch in run.read_history()]
            report(len(accuracies), float(max(accuracies)))


class _Reporting(Callback):
    """Reports the best accuracy so far after each epoch."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.has_told = False

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """See `Callback`."""
        self.has_told = True
        best = max(each.validation.accuracy for each in state.history)
        self._report(len(state.history), float(best))
