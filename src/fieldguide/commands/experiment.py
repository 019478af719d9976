"""`fieldguide experiment`: several recipes on the same photos, split and seeds, to a table of methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fieldguide.cluster.jobs import Share, demand_place
from fieldguide.commands.submissions import Submissions, read_scores
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.commands.trial import experiment_folder
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.experiment_recipes import demand_one_split, measured_recipes, read_recipes
from fieldguide.commands.trial.prepare import prepare
from fieldguide.commands.trial.seeds import means_of_seeds
from fieldguide.commands.trial.table import show, write_tables
from fieldguide.commands.trials import Shared, finish_here, trials_of
from fieldguide.commands.trials_elsewhere import finish_elsewhere
from fieldguide.data.look.source import as_source
from fieldguide.errors import UsageError, counted
from fieldguide.recipe.overrides import Overrides
from fieldguide.report import comparison
from fieldguide.report.pairs import pair_runs
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback, demand_callbacks
from fieldguide.world import Device

MOST_SEEDS = 1_000


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
    on: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float | None = None,
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
        on: trains in other processes, several at once: `ray` (the cluster at RAY_ADDRESS, or this machine),
            `ray://HOST:10001` or `slurm`. All machines need photos, `output` and weights at the same paths. A trial
            whose process or machine dies is resumed, up to 3 times. None: here, one after the other.
        cpus_per_trial, gpus_per_trial: with `on`, what each takes of a machine; on Ray also a part of a GPU. None: a
            GPU where there is one. A trial computes with so many threads.
        quiet: show nothing.
        callbacks: as for `train`; each trial is told as a run. With `on` they must pickle.

    Raises:
        UsageError: wrong recipes or paths (before training), or photos or a recipe changed since the experiment began.
        PhotosError: problems with the photos.
    """
    screen, folder, device = Screen(quiet=quiet), Path(output), str(device)
    warn_of_hidden_gpu(device, screen)
    source = as_source(photos, photos_folder, columns)
    demand_callbacks(callbacks)
    if on is not None:
        demand_place(on)
    elif cpus_per_trial != 1 or gpus_per_trial is not None:
        raise UsageError("--cpus-per-trial, --gpus-per-trial: are for --on; leave them out")
    share = Share(cpus_per_trial, gpus_per_trial)
    share.demand("trial")
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds {seeds}: must be from 1 to {MOST_SEEDS:,}")
    chosen, opened = read_recipes(source, recipes, overrides, weights, device, folder, screen)
    demand_one_split(chosen.values())
    scores = read_scores(test_scores, trials_of(chosen, seeds))
    starts = [made.model.weights for made in chosen.values()]
    starts += [each.weights for one in opened.values() for each in one.candidates]
    prepared = prepare(source, next(iter(chosen.values())), screen, starts, beside=chosen)
    folder.mkdir(parents=True, exist_ok=True)
    experiment_folder.demand_same_split(folder / experiment_folder.SPLIT_FILE, prepared.split)
    settled, tried = measured_recipes(opened, prepared, device, screen)
    chosen |= settled
    trials = trials_of(chosen, seeds)
    submissions = Submissions(folder, prepared, device, screen, scores)
    shared = Shared(prepared, device, screen.name, callbacks, tried)
    if on is None:
        found = finish_here(trials, folder, shared, lambda name, run: submissions.add(name, run.path))
    else:
        found = finish_elsewhere(trials, folder, shared, on, share, screen)
        for name, run in found.runs.items():
            submissions.add(name, run.path)
    if found.exit_code:
        screen.warn("the experiment stopped; run the same command again to resume")
        return Experiment(folder, (), found.exit_code)
    recipe_of = {name: trial.recipe_name for name, trial in trials.items()}
    rows = _write_table(submissions, found.runs, found.failed, recipe_of, screen)
    return Experiment(folder, tuple(rows), 1 if found.failed else 0)


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
