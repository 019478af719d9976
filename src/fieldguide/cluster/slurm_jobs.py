"""Calls as Slurm jobs. The only one that knows submitit."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import MOST_LOSSES, Cluster, LostError, Share, in_folder
from fieldguide.errors import FieldguideError, UsageError

MOST_MINUTES = 24 * 60  # of a job; SBATCH_TIMELIMIT says otherwise
LOOK_SECONDS = 0.2
ASK_SECONDS = 30.0  # between questions to Slurm about a job that has no result yet
LAG_SECONDS = 5.0  # in which what a job wrote can be seen by all machines
KIND = "slurm"  # which of submitit's executors


class Again:
    """A call that is made again where Slurm ends its job early (a time limit, another job that matters more)."""

    def __call__(self, *given: Any) -> tuple[Any, FieldguideError | None]:
        """What it gave, or the user's mistake that it raised."""
        try:
            return in_folder(*given), None
        except FieldguideError as error:
            return None, error

    def checkpoint(self, *given: Any) -> Any:
        """What submitit submits in its place; the training goes on from its last checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *given)


class SlurmJobs(Cluster):
    """Each call is a job; one that is lost is submitted again."""

    def __init__(self, share: Share, logs: Path) -> None:
        """Raises UsageError if this machine has no Slurm."""
        import submitit

        try:
            self._executor = submitit.AutoExecutor(folder=logs, cluster=KIND)
        except RuntimeError as error:
            raise UsageError(f"--on slurm: {error}; run this where sbatch is") from None
        how: dict[str, Any] = {"timeout_min": MOST_MINUTES, "name": "fieldguide"}
        self._executor.update_parameters(**how, cpus_per_task=max(1, round(share.cpus)))
        if share.gpus:
            if share.gpus != round(share.gpus):
                raise UsageError(f"--gpus-per-trial {share.gpus:g}: Slurm gives whole GPUs; ask for 1 or more")
            self._executor.update_parameters(gpus_per_node=int(share.gpus))
        self._asked: dict[int, float] = {}
        self._gone: dict[int, float] = {}  # until when to wait for the results of jobs that have ended
        self._jobs = dict[int, tuple[Any, int, tuple[Any, ...]]]()  # job, losses, what was given

    @property
    def sentence(self) -> str:
        """See `Cluster`."""
        return "Slurm"

    def shared(self, value: Any) -> Any:
        """See `Cluster`."""
        return value

    def submit(self, call: Callable[..., Any], *given: Any) -> Any:
        """See `Cluster`."""
        number = len(self._jobs)
        self._begin(number, 0, (str(Path.cwd()), call, *given))
        return number

    def ended(self, begun: Sequence[Any], seconds: float) -> list[Any]:
        """See `Cluster`."""
        until = time.monotonic() + seconds
        while True:
            done = [number for number in begun if self._has_ended(number)]
            if done or time.monotonic() >= until:
                return done
            time.sleep(LOOK_SECONDS)

    def result(self, begun: Any) -> Any:
        """See `Cluster`."""
        job, losses, _ = self._jobs[begun]
        if not job.paths.result_pickle.exists():
            raise LostError(f"its process or machine ended {losses + 1} times; see {job.paths.stderr}")
        found, mistake = job.result()
        if mistake is not None:
            raise mistake
        return found

    def interrupt(self, begun: Sequence[Any]) -> None:
        """See `Cluster`."""
        for number in begun:
            job = self._jobs[number][0]
            if KIND == "slurm":
                for how in ("--state=PENDING", "--signal=TERM"):
                    subprocess.run(["scancel", how, str(job.job_id)], check=False, capture_output=True)
            else:
                with contextlib.suppress(OSError):
                    os.kill(int(job.job_id), signal.SIGTERM)

    def close(self) -> None:
        """See `Cluster`."""

    def _begin(self, number: int, losses: int, given: tuple[Any, ...]) -> None:
        self._jobs[number] = (self._executor.submit(Again(), *given), losses, given)

    def _has_ended(self, number: int) -> bool:
        """Whether a job has ended for good; one that was lost begins again."""
        job, losses, given = self._jobs[number]
        if job.paths.result_pickle.exists():
            return True
        is_due = time.monotonic() >= self._asked.get(number, 0.0) + ASK_SECONDS
        if is_due:
            self._asked[number] = time.monotonic()
        if not job.done(force_check=is_due):
            return False
        until = self._gone.setdefault(number, time.monotonic() + LAG_SECONDS)
        if job.paths.result_pickle.exists():
            return True
        if time.monotonic() < until:
            return False
        del self._gone[number]
        if losses < MOST_LOSSES:
            self._begin(number, losses + 1, given)
            return False
        return True
