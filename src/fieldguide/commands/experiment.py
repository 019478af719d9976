"""`fieldguide experiment`: several recipes on the same photos, split and seeds, to a table of methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldguide import assemble
from fieldguide.commands.submissions import Submissions, evaluate_test, read_scores, wants_test
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.commands.trial import experiment_folder
from fieldguide.commands.trial.begin import run_trial, seconds_for
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.experiment_recipes import demand_one_split, measured_recipes, read_recipes
from fieldguide.commands.trial.failed import note_failure, why_failed
from fieldguide.commands.trial.go_on import finished_before, go_on
from fieldguide.commands.trial.prepare import Prepared, prepare
from fieldguide.commands.trial.request import demand_same_recipe, read_request
from fieldguide.commands.trial.seeds import means_of_seeds
from fieldguide.commands.trial.table import show, write_tables
from fieldguide.data.look.source import as_source
from fieldguide.errors import NotFiniteError, UsageError, counted
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.overrides import Overrides
from fieldguide.recipe.resolve import settled_as
from fieldguide.report import comparison
from fieldguide.report.pairs import pair_runs
from fieldguide.result_format import is_spoilt
from fieldguide.run_folder import RunFolder
from fieldguide.storage import is_empty
from fieldguide.training.observers import Callback, demand_callbacks
from fieldguide.world import Device

MOST_SEEDS = 1_000
MOST_SEED = 2**63


@dataclass(frozen=True)
class Trial:
    """One training of an experiment; its recipe has the seed of the trial."""

    recipe_name: str
    recipe: ResolvedRecipe


@dataclass(frozen=True)
class _Shared:
    """What all trials have in common."""

    prepared: Prepared
    device: str
    screen: Screen
    callbacks: Sequence[Callback]
    tried: Mapping[str, Mapping[str, Any]]  # what `model.backbone: auto` measured, by the name of the recipe


@dataclass(frozen=True)
class Experiment:
    """Trials side by side.

    Attributes:
        path: folder of the experiment, with one run per trial, `table.csv`, `table.md` and `table.json`.
        rows: the table: one row per run, then, with several seeds, one row per recipe with the mean. A trial whose loss
            was not finite has no row.
        exit_code: 0; 1 if the loss of a trial was not finite. If a trial stopped and can be resumed: 129, 130 or 143
            after a signal, 1 after a photo became unreadable; call again to resume.
    """

    path: Path
    rows: tuple[comparison.Row, ...]
    exit_code: int = 0

    def __repr__(self) -> str:
        return f"Experiment({self.path}, {counted(len(self.rows), 'row')})"


def experiment(
    photos: str | Path,
    recipes: Sequence[str | Path],
    output: str | Path,
    *,
    seeds: int = 1,
    overrides: Overrides = (),
    weights: str | Path | None = None,
    device: Device = "auto",
    photos_folder: str | Path | None = None,
    columns: str | None = None,
    test_scores: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Experiment:
    """Trains each recipe on the same split and seeds; called again, it resumes.

    A trial whose loss is not finite is reported beside the table, and not tried again.

    Args:
        photos: as for `train`.
        recipes: presets or files; each becomes the run `output/NAME`.
        output: folder for the experiment: empty, or this experiment. Its finished trials are not trained again, and
            evaluated again only if the test photos changed.
        seeds: per recipe, from `training.seed` upwards. With several, the runs are `output/NAME-seedN` and the table
            ends with their means. All use the split of the first seed, and each `auto` as the first seed settled it:
            `training.max_minutes` limits the plan of the first seed, and the others reuse that plan. It includes
            measuring backbones, once for a recipe.
        overrides, weights, device: as for `train`, for each recipe.
        photos_folder, columns: of a table, as for `train`.
        test_scores: a CSV `method,score` with what a leaderboard said of the runs' submissions. Of test photos without
            labels, each run's predictions and submission are in `output/submissions`.
        quiet: show nothing.
        callbacks: as for `train`; each trial is told as a run.

    Raises:
        UsageError: wrong recipes or paths (before training), or photos or a recipe changed since the experiment began.
        PhotosError: problems with the photos.
    """
    screen, folder, device = Screen(quiet=quiet), Path(output), str(device)
    warn_of_hidden_gpu(device, screen)
    source = as_source(photos, photos_folder, columns)
    demand_callbacks(callbacks)
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds {seeds}: must be from 1 to {MOST_SEEDS:,}")
    chosen, opened = read_recipes(source, recipes, overrides, weights, device, folder, screen)
    demand_one_split(chosen.values())
    scores = read_scores(test_scores, _trials(chosen, seeds))
    starts = [made.model.weights for made in chosen.values()]
    starts += [each.weights for one in opened.values() for each in one.candidates]
    prepared = prepare(source, next(iter(chosen.values())), screen, starts, beside=chosen)
    folder.mkdir(parents=True, exist_ok=True)
    experiment_folder.demand_same_split(folder / experiment_folder.SPLIT_FILE, prepared.split)
    settled, tried = measured_recipes(opened, prepared, device, screen)
    chosen |= settled
    trials = _trials(chosen, seeds)
    submissions = Submissions(folder, prepared, device, screen, scores)
    shared, runs, failed = _Shared(prepared, device, screen, callbacks, tried), dict[str, Run](), dict[str, str]()
    for number, (name, trial) in enumerate(trials.items(), start=1):
        screen.say(f"\ntrial {number} of {len(trials)}: {name}", style="bold")
        first = next((run for other, run in runs.items() if trials[other].recipe_name == trial.recipe_name), None)
        alike = None if first is None else RunFolder(first.path)
        run = _finish_or_fail(trial, alike, RunFolder(folder / name), shared)
        if isinstance(run, str):
            failed[name] = run
        elif run.exit_code:
            screen.warn("the experiment stopped; run the same command again to resume")
            return Experiment(folder, (), run.exit_code)
        else:
            runs[name] = run
            submissions.add(name, run.path)
    rows = _write_table(submissions, runs, failed, {name: trial.recipe_name for name, trial in trials.items()}, screen)
    return Experiment(folder, tuple(rows), 1 if failed else 0)


def _write_table(
    submissions: Submissions,
    runs: Mapping[str, Run],
    failed: Mapping[str, str],
    recipe_of: Mapping[str, str],
    screen: Screen,
) -> list[comparison.Row]:
    """Writes and shows the table of the runs, with remarks; no rows if no trial has a model."""
    if not runs:
        screen.warn("no trial finished, so there is no table")
        return []
    results = [(name, RunFolder(run.path), RunFolder(run.path).read_result()) for name, run in runs.items()]
    rows, folder = comparison.table([(name, result) for name, _, result in results]), submissions.folder
    for row in rows:
        row["test_score"] = submissions.score(row["method"])
    means, unlike = means_of_seeds(rows, runs, failed, recipe_of)
    rows += means
    pairs = pair_runs(results)
    lost = [f"{name} is not in the table, because it did not finish: {why}" for name, why in failed.items()]
    pairs = replace(pairs, remarks=(*lost, *unlike, *pairs.remarks))
    write_tables(rows, pairs, folder / "table.csv", folder / "table.md", folder / "table.json")
    screen.say("")
    show(rows, pairs, screen)
    screen.say(f"table: {folder / 'table.csv'}, {folder / 'table.md'}, {folder / 'table.json'}")
    return rows


def _trials(recipes: Mapping[str, ResolvedRecipe], seeds: int) -> dict[str, Trial]:
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


def _finish_or_fail(trial: Trial, first: RunFolder | None, run: RunFolder, shared: _Shared) -> Run | str:
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


def _finish_trial(trial: Trial, first: RunFolder | None, run: RunFolder, shared: _Shared) -> Run:
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
        asked = settled.recipe_name, settled.recipe, own, run.path, shared.device, screen.name
        finished = run_trial(*asked, seconds=seconds, callbacks=shared.callbacks)
    if not finished.exit_code and wants_test(finished.result["test"], prepared, screen):
        evaluate_test(run.path, prepared, shared.device, screen)
    return finished


def _go_on(trial: Trial, run: RunFolder, shared: _Shared) -> Run:
    request = read_request(run)
    recipe = demand_same_recipe(run, request, ())
    experiment_folder.demand_same_trial(run, trial.recipe)
    if run.split.exists():
        experiment_folder.demand_same_split(run.split, shared.prepared.split)
    asked = request, recipe, shared.prepared, run, shared.device, shared.screen.name
    return go_on(*asked, callbacks=shared.callbacks)
