"""The trials of an experiment on a cluster: each in a process of its own, resumed where that dies; one display."""

import contextlib
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import MOST_LOSSES, Cluster, LostError, Share
from fieldguide.cluster.opened import opened
from fieldguide.commands.terminal.interrupts import Interrupts
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.terminal.trials_display import TrialsDisplay
from fieldguide.commands.trial import experiment_folder
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trials import Finished, Shared, Trial, finish_or_fail
from fieldguide.errors import SIGNAL_EXIT_CODES, UsageError, counted, speaking_flags, speaks_flags
from fieldguide.run_folder import RunFolder

LOGS = "slurm-logs"  # below the folder of the experiment
LOOK_SECONDS = 0.5
MOST_SECONDS_TO_SAVE = 120


def finish_elsewhere(
    trials: Mapping[str, Trial], folder: Path, shared: Shared, on: str, share: Share, screen: Screen
) -> Finished:
    """All trials, as many at once as fit; of each recipe the first seed goes ahead, as its `auto` settles the others.

    Raises:
        UsageError: no such cluster; a node that lacks the folder; what a trial raises.
    """
    found = Finished()
    with opened(on, share, folder / LOGS) as cluster:
        display = TrialsDisplay(screen, {name: RunFolder(folder / name) for name in trials})
        screen.say(f"{counted(len(trials), 'trial')} on {cluster.sentence}")
        work = _Work(cluster, trials, folder, shared)
        with Interrupts() as interrupts, display.running(), work.saved_at_the_end():
            while work.is_open and not interrupts.received:
                if not found.exit_code:
                    for name in work.begin():
                        display.begins(name)
                for name, outcome in work.ended(LOOK_SECONDS, interrupts):
                    _note(found, name, outcome, folder, display)
                    work.has_ended(name, found)
                display.look()
                for remark in cluster.remarks():
                    screen.warn(remark)
                if found.exit_code and not work.begun:
                    break
        if interrupts.received:
            found.exit_code = SIGNAL_EXIT_CODES[interrupts.received]
    order = list(trials)
    found.runs = dict(sorted(found.runs.items(), key=lambda each: order.index(each[0])))
    found.failed = dict(sorted(found.failed.items(), key=lambda each: order.index(each[0])))
    return found


def _note(found: Finished, name: str, outcome: Any, folder: Path, display: TrialsDisplay) -> None:
    run = RunFolder(folder / name)
    if isinstance(outcome, LostError):
        found.exit_code = 1
        display.ends(name, f"stopped: {outcome}")
    elif isinstance(outcome, str):
        found.failed[name] = outcome
        display.ends(name, f"failed: {outcome}")
    elif outcome:
        found.exit_code = outcome
        signals = [name for name, code in SIGNAL_EXIT_CODES.items() if code == outcome]
        by = f" by {signals[0]} on its machine" if signals else ""
        display.ends(name, f"stopped{by}; what was saved is kept")
    else:
        found.runs[name] = Run(run.path, run.read_result())
        accuracy = found.runs[name].result["validation"]["accuracy"]
        display.ends(name, f"finished, validation accuracy {accuracy:.4f}")


class _Work:
    """Trials that wait, that run, and that may begin once the first seed of their recipe is there."""

    def __init__(self, cluster: Cluster, trials: Mapping[str, Trial], folder: Path, shared: Shared) -> None:
        self._cluster, self._trials, self._folder = cluster, trials, folder
        self._shared = cluster.shared(replace(shared, show="quiet"))
        self._waiting = list(trials)
        self._first: dict[str, str] = {}  # the name of the run that settles a recipe's `auto`, by recipe
        self.begun: dict[Any, str] = {}
        self._given: dict[str, tuple[Any, ...]] = {}  # by name, for a trial that its machine stopped
        self._stops: Counter[str] = Counter()

    @property
    def is_open(self) -> bool:
        """Whether a trial waits or runs."""
        return bool(self._waiting or self.begun)

    def begin(self) -> Iterator[str]:
        """Hands over each trial that can begin, and gives its name."""
        runs_first = {self._trials[name].recipe_name for name in self.begun.values()}
        for name in list(self._waiting):
            trial = self._trials[name]
            first = self._first.get(trial.recipe_name)
            if first is None and trial.recipe_name in runs_first:
                continue
            runs_first.add(trial.recipe_name)
            alike = None if first is None else RunFolder(self._folder / first)
            run = RunFolder(self._folder / name)
            self._given[name] = self._folder, trial, alike, run, self._shared, speaks_flags()
            self.begun[self._cluster.submit(_finish, *self._given[name])] = name
            self._waiting.remove(name)
            yield name

    def ended(self, seconds: float, interrupts: Interrupts) -> Iterator[tuple[str, Any]]:
        """The names of trials that ended: with 0, an exit code, why it fails, or the LostError.

        One that its machine stopped, as it is needed for another job or shuts down, begins again elsewhere.
        """
        for each in self._cluster.ended(list(self.begun), seconds):
            name, outcome = self.begun.pop(each), None
            try:
                outcome = self._cluster.result(each)
            except LostError as error:
                outcome = error
            if outcome == SIGNAL_EXIT_CODES["SIGTERM"] and not interrupts.received:
                if cancelled := self._cluster.who_cancelled(each):
                    outcome = LostError(f"{cancelled}; what was saved is kept")
                elif self._stops[name] < MOST_LOSSES:
                    self._stops[name] += 1
                    self.begun[self._cluster.submit(_finish, *self._given[name])] = name
                    continue
            yield name, outcome

    def has_ended(self, name: str, found: Finished) -> None:
        """A recipe's first run that is finished settles the others."""
        if name in found.runs:
            self._first.setdefault(self._trials[name].recipe_name, name)

    @contextlib.contextmanager
    def saved_at_the_end(self) -> Iterator[None]:
        """What still runs at the end is told to save, and waited for."""
        try:
            yield
        finally:
            if self.begun:
                self._cluster.interrupt(list(self.begun))
                left, waited = list(self.begun), 0.0
                while left and waited < MOST_SECONDS_TO_SAVE:
                    done = self._cluster.ended(left, LOOK_SECONDS)
                    left, waited = [each for each in left if each not in done], waited + LOOK_SECONDS


def _finish(
    folder: Path, trial: Trial, first: RunFolder | None, run: RunFolder, shared: Shared, flags: bool
) -> str | int:
    """In the other process: the exit code of the run, or why it always fails."""
    with speaking_flags() if flags else contextlib.nullcontext():
        if not (folder / experiment_folder.SPLIT_FILE).exists():
            raise UsageError(f"-o {folder}: is not on the machine {platform.node()}; choose a folder that all share")
        finished = finish_or_fail(trial, first, run, shared)
        return finished if isinstance(finished, str) else finished.exit_code
