"""A trial by several processes: the leader's trial, and what the others make of it."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fieldguide import assemble
from fieldguide.commands.trial.live import Trial
from fieldguide.data.split.partition import Split
from fieldguide.errors import SIGNAL_EXIT_CODES, FieldguideError, shown
from fieldguide.model.weights import LoadedWeights
from fieldguide.recipe.lives import SettledRecipe
from fieldguide.training.together import Leader, follow
from fieldguide.training.tools import Tools
from fieldguide.world import choose_device, repeatable
from fieldguide.world.convolutions import convolutions
from fieldguide.world.processes import FINE, NOT_FINE, LostProcessError, Team, own_device


@dataclass(frozen=True)
class Job:
    """What the others need to take part in a training; plain data that pickles."""

    recipe: SettledRecipe
    split: Split
    paths: dict[str, Path]
    weights: LoadedWeights
    device: str  # the leader's


@contextlib.contextmanager
def led(trial: Trial) -> Iterator[Tools]:
    """The tools of a trial's loop: its own, or those that do each thing together with other processes.

    Raises what hinders another process from taking part.
    """
    made, team = trial.assembled, trial.team
    if team is None:
        yield made.tools
        return
    device = choose_device(trial.device)
    paths = {photo.file: photo.path for photo in trial.prepared.folder.photos}
    team.join(device)
    team.tell(Job(trial.recipe, trial.split, paths, made.weights, str(device)))
    if any(team.agree(FINE)):
        team.raise_problem(None)
    leader = Leader(made.model, made.tools, team)
    try:
        yield leader.tools
    except BaseException:  # the others may wait in the middle of a step: they end when this process does
        team.is_lost = True
        raise
    leader.end()


def follow_leader(team: Team) -> int:
    """Takes part in the trainings of the leader, until it ends; the exit code.

    A signal is the leader's matter: it saves, and then ends the training for all.
    """
    for name in SIGNAL_EXIT_CODES:
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_DFL)  # while it waits in torch, no handler of Python's would be called
    try:
        if not team.join():
            return 0
        for name in SIGNAL_EXIT_CODES:
            if (number := getattr(signal, name, None)) is not None:
                signal.signal(number, signal.SIG_IGN)
        while (job := team.hear()) is not None:
            _take_part(job, team)
    except LostProcessError as error:
        return error.exit_code  # the leader says so, unless it was the one
    except FieldguideError as error:
        print(f"error in process {team.rank}: {shown(str(error))}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _take_part(job: Job, team: Team) -> None:
    problem = None
    try:
        device = own_device(job.device)
        made = assemble.assemble(job.recipe, job.split, job.paths, device, loaded=job.weights, team=team)
    except FieldguideError as error:
        problem = error
    if any(team.agree(FINE if problem is None else NOT_FINE)):
        team.raise_problem(problem)
        return
    with repeatable(job.recipe.training.seed), convolutions(job.recipe.execution):
        follow(made.model, made.tools, team)
