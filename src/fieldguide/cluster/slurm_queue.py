"""What Slurm says of jobs, by its own commands; `squeue` works without an accounting database, `sacct` does not."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECONDS_TO_ANSWER = 60
PENDING, CANCELLED = "PENDING", "CANCELLED"
OVER = {  # the other states are of jobs that wait, run, or will run again
    "BOOT_FAIL", CANCELLED, "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
}  # fmt: skip
USUAL = {"None", "Priority", "Resources", "BeginTime", "Prolog"}  # to wait for these is what a queue is for


@dataclass(frozen=True)
class Queued:
    """A job's state, such as `PENDING`, and the reason for it, such as `Resources`."""

    state: str
    reason: str = ""


SUBMITTED, GONE = Queued(PENDING, "None"), Queued("gone from the queue")


def queue() -> Mapping[str, Queued] | None:
    """This user's jobs by their number; those that ended some minutes ago are gone. None: Slurm does not answer."""
    words = ["squeue", "--noheader", f"--user={os.getuid()}", "--states=all", "--format=%i|%T|%r"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode:
        return None
    rows = [line.strip().split("|", 2) for line in told.stdout.splitlines() if line.count("|") >= 2]
    return {number: Queued(state, reason) for number, state, reason in rows}


def scancel(number: str, *how: str) -> None:
    """Cancels or signals a job; one that has ended is left as it is."""
    try:
        subprocess.run(["scancel", *how, number], check=False, capture_output=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return


def waits(found: Mapping[str, Queued], numbers: Sequence[str]) -> dict[str, str]:
    """Why jobs wait, for another reason than that it is not their turn yet: sentences by reason."""
    by_reason: dict[str, list[str]] = {}
    for number in numbers:
        job = found.get(number, GONE)
        if job.state == PENDING and job.reason not in USUAL:
            by_reason.setdefault(job.reason, []).append(number)
    return {
        reason: f"Slurm job {jobs[0]}{f' and {len(jobs) - 1} more' if jobs[1:] else ''} cannot begin: {reason}. "
        f"Wait, or look with: scontrol show job {jobs[0]}"
        for reason, jobs in by_reason.items()
    }
