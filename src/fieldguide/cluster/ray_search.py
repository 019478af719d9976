"""A search by Ray Tune: Optuna's sampler proposes, ASHA stops what falls behind. The only file that knows both."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import RAY, Share
from fieldguide.cluster.ray_connection import connect, disconnect, most_on_a_node
from fieldguide.errors import FieldguideError, UsageError, counted, speaking_flags

ACCURACY, EPOCHS, NAME, WHY = "accuracy", "epochs", "run", "why"
KEPT = "tune"  # Tune's own files, below the folder of the search
REDUCTION = 3  # ASHA goes on with a third of the trials, after 1, 3, 9, ... epochs
MOST_LOSSES = 3
TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the search as if its time were over
    "RAY_AIR_NEW_OUTPUT": "0",  # it would draw a box of its settings, whatever `verbose` says
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # instead of 10 s or more, in which a killed search forgets what it tried
}
Report = Callable[[int, float], None]
Train = Callable[[str, Mapping[str, Any], Report], None]


@dataclass(frozen=True)
class Wanted:
    """What is searched; `ranges` are (low, high, is log, is whole), `choices` lists of plain values."""

    choices: Mapping[str, Sequence[Any]]
    ranges: Mapping[str, tuple[float, float, bool, bool]]
    most_epochs: int
    seconds: float
    trials: int | None
    seed: int


@dataclass(frozen=True)
class Tried:
    """A trial: its best accuracy and how many epochs it had; or why it failed."""

    name: str
    values: Mapping[str, Any]
    epochs: int = 0
    accuracy: float | None = None
    why: str = ""


def search(
    train: Train,
    wanted: Wanted,
    folder: Path,
    on: str | None,
    share: Share,
    *,
    resume: bool,
    tell: Callable[[str], None],
) -> list[Tried]:
    """Tries values until the time is over, or as many as wanted; the best first, then those that failed.

    Args:
        train: of a name, values by field, and what takes (epochs, best accuracy so far) after each epoch; it must
            pickle, and go on with what an earlier call of the same name left.
        folder: of the search, absolute, on all machines.
        on: None: one trial at a time on this machine. Else as for `opened`.
        resume: with what an interrupted search of this folder left, if it left anything.
        tell: takes a sentence about each trial that ended.

    Raises:
        UsageError: no cluster.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in TUNE.items()})
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("a search needs the package optuna: pip install 'fieldguide[ray]'")
    import optuna
    import ray
    from ray import tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    connection = connect(None if on in (None, RAY) else on)
    try:
        cpus, gpus = most_on_a_node()
        each = {
            "cpu": cpus if on is None else share.cpus,
            "gpu": share.gpus if share.gpus is not None else min(1, gpus),
        }
        body = _Body(train, str(Path.cwd()))
        trainable = tune.with_resources(tune.with_parameters(_run, body=ray.put(body)), each)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        told = _lines(tell)
        goes_on = resume and tune.Tuner.can_restore(str(folder / KEPT))
        tuner = _restored(folder, trainable, told) if goes_on else _new(wanted, folder, trainable, told)
        tuner.fit()
        tried = _tried(folder, trainable)
        if not told.has_told:  # through `ray://`, Tune runs on the cluster, with a callback that has no screen
            for trial in tried:
                tell(_line(trial.name, trial.epochs, trial.accuracy, trial.why))
        return tried
    finally:
        disconnect(connection)


@dataclass(frozen=True)
class _Body:
    train: Train
    folder: str


def _run(config: Mapping[str, str | float], body: Any) -> None:
    """In the trial's process."""
    import ray
    from ray import tune

    own: _Body = ray.get(body) if isinstance(body, ray.ObjectRef) else body
    os.chdir(own.folder)
    name = tune.get_context().get_trial_id()
    best: dict[str, Any] = {ACCURACY: 0.0, EPOCHS: 0}

    def report(epochs: int, accuracy: float) -> None:
        best.update({EPOCHS: epochs, ACCURACY: accuracy})
        tune.report(dict(best))

    with speaking_flags():
        try:
            own.train(name, values_of(config), report)
        except FieldguideError as error:  # values that do not go together, a loss that is not finite
            tune.report(best | {ACCURACY: 0.0, WHY: str(error)})


def values_of(config: Mapping[str, str | float]) -> dict[str, Any]:
    """The values of a trial as they were given: Optuna holds choices as texts."""
    return {field: json.loads(value) if isinstance(value, str) else value for field, value in config.items()}


def _new(wanted: Wanted, folder: Path, trainable: Any, told: Any) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space: dict[str, Any] = {name: tune.choice(list(map(json.dumps, of))) for name, of in wanted.choices.items()}
    for name, (low, high, is_log, is_whole) in wanted.ranges.items():
        if is_whole:
            make: Any = tune.lograndint if is_log else tune.randint
            space[name] = make(int(low), int(high) + 1)
        else:
            space[name] = (tune.loguniform if is_log else tune.uniform)(low, high)
    asha = {"max_t": wanted.most_epochs, "grace_period": 1, "reduction_factor": REDUCTION}
    config = tune.TuneConfig(
        metric=ACCURACY,
        mode="max",
        search_alg=OptunaSearch(seed=wanted.seed),
        scheduler=ASHAScheduler(time_attr=EPOCHS, **asha),
        num_samples=-1 if wanted.trials is None else wanted.trials,
        time_budget_s=wanted.seconds,
    )
    failure = tune.FailureConfig(max_failures=MOST_LOSSES)
    run = tune.RunConfig(name=KEPT, storage_path=str(folder), verbose=0, failure_config=failure, callbacks=[told])
    return tune.Tuner(trainable, param_space=space, tune_config=config, run_config=run)


def _restored(folder: Path, trainable: Any, told: Any) -> Any:
    from ray import tune

    tuner = tune.Tuner.restore(str(folder / KEPT), trainable, resume_unfinished=True, restart_errored=True)
    tuner._local_tuner.get_run_config().callbacks = [told]  # what is kept has no screen
    return tuner


def _tried(folder: Path, trainable: Any) -> list[Tried]:
    from ray import tune

    found = []
    for result in tune.Tuner.restore(str(folder / KEPT), trainable).get_results():
        last, values = result.metrics or {}, values_of(result.config or {})
        name = str(last.get("trial_id", Path(result.path).name))
        if result.error is not None:
            found.append(Tried(name, values, why=str(result.error).strip().splitlines()[-1]))
        elif last.get(WHY):
            found.append(Tried(name, values, why=str(last[WHY])))
        elif last.get(EPOCHS):
            found.append(Tried(name, values, int(last[EPOCHS]), float(last[ACCURACY])))
    return sorted(found, key=lambda tried: (tried.accuracy is None, -(tried.accuracy or 0), tried.name))


def _line(name: str, epochs: int, accuracy: float | None, why: str) -> str:
    return f"{name}: failed: {why}" if why else f"{name}: {counted(epochs, 'epoch')}, best accuracy {accuracy:.4f}"


def _lines(tell: Callable[[str], None]) -> Any:
    """Tune's callback that says a sentence as each trial ends."""
    from ray.tune import Callback

    class Lines(Callback):  # type: ignore[misc]
        def __init__(self, tell: Callable[[str], None] | None) -> None:
            self.tell = tell
            self.has_told = False

        def __reduce__(self) -> tuple[Any, ...]:
            return Lines, (None,)  # Tune keeps it on disk; a screen cannot be kept

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **more: Any) -> None:
            last = trial.last_result or {}
            if self.tell is not None and (last.get(WHY) or last.get(EPOCHS)):
                self.has_told = True
                self.tell(_line(trial.trial_id, last.get(EPOCHS, 0), last.get(ACCURACY), last.get(WHY, "")))

    return Lines(tell)
