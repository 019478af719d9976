"""Several processes for one training: `--processes N` starts them; the first runs the command, the others follow it."""

import sys
from collections.abc import Callable

from fieldguide.errors import UsageError
from fieldguide.world import processes


def launched(count: int) -> int | None:
    """Runs this command line again in so many processes, and returns the exit code; None: go on in this one.

    Raises UsageError if the number makes no sense.
    """
    if count < 1:
        raise UsageError(f"--processes {count}: must be 1 or more")
    team = processes.team()
    if team is not None and team.size != count:
        raise UsageError(f"--processes {count}: torchrun started {team.size} processes; leave --processes out")
    if team is not None or count == 1:
        return None
    return processes.launch(count, ["-m", "fieldguide", *sys.argv[1:]])


def run_together(command: Callable[[], int]) -> int:
    """A command in a process that torchrun started among others; the exit code."""
    from fieldguide.commands.trial.together import follow_leader

    team = processes.begin()
    if team.rank:
        return follow_leader(team)
    try:
        return command()
    finally:
        team.send_home()
