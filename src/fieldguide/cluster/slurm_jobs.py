"""Calls as Slurm jobs. The only one that knows submitit."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import MOST_LOSSES, Cluster, LostError, Share, in_folder
from fieldguide.cluster.slurm_queue import CANCELLED, GONE, OVER, PENDING, SUBMITTED, Queued, queue, scancel, waits
from fieldguide.errors import FieldguideError, UsageError, counted

MOST_MINUTES = 24 * 60  # of a job; SBATCH_TIMELIMIT says otherwise
LOOK_SECONDS = 0.2
ASK_SECONDS = 20.0  # between questions to Slurm about jobs that have no result yet
SIGNAL_SECONDS = 5.0  # between signals to a job that is to end: it hears none before its training begins
LAG_SECONDS = 30.0  # in which what a job wrote can be seen by all machines
SECONDS_TO_END = 60.0  # in which a job that has its result leaves its node
WAS_CANCELLED = "Slurm job {} was cancelled"
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


@dataclass
class _Begun:
    """A call and the job that makes it."""

    given: tuple[Any, ...]
    job: Any
    losses: int = 0
    queued: Queued = SUBMITTED  # as Slurm said last
    gone_until: float | None = None  # until when to wait for the result of a job that has ended
    has_ended: bool = False
    signalled: float = 0.0

    @property
    def has_result(self) -> bool:
        return bool(self.job.paths.result_pickle.exists())

    @property
    def number(self) -> str:
        return str(self.job.job_id)


class SlurmJobs(Cluster):
    """Each call is a job; one that is lost is submitted again, but not one that somebody cancelled."""

    def __init__(self, share: Share, logs: Path) -> None:
        """Raises UsageError if this machine has no Slurm."""
        import submitit

        try:
            self._executor = submitit.AutoExecutor(folder=logs, cluster=KIND)
        except RuntimeError as error:
            raise UsageError(f"--on slurm: {error}; run this where sbatch is") from None
        cpus = max(1, round(share.cpus))
        how: dict[str, Any] = {"timeout_min": MOST_MINUTES, "name": "fieldguide", "cpus_per_task": cpus}
        how["slurm_srun_args"] = [f"--cpus-per-task={cpus}"]  # which srun does not take from sbatch since Slurm 22.05
        how["slurm_setup"] = [f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{cpus}}}"]
        self._executor.update_parameters(**how)
        if share.gpus:
            if share.gpus != round(share.gpus):
                raise UsageError(f"--gpus-per-trial {share.gpus:g}: Slurm gives whole GPUs; ask for 1 or more")
            self._executor.update_parameters(gpus_per_node=int(share.gpus))
        self._sentence = f"Slurm (each {counted(cpus, 'CPU')}, {counted(int(share.gpus or 0), 'GPU')})"
        self._asked = time.monotonic()
        self._remarks: dict[str, str] = {}  # by the reason that they tell
        self._told = set[str]()
        self._is_ending = False
        self._calls: list[_Begun] = []

    @property
    def sentence(self) -> str:
        """See `Cluster`."""
        return self._sentence

    def shared(self, value: Any) -> Any:
        """See `Cluster`."""
        return value

    def submit(self, call: Callable[..., Any], *given: Any) -> Any:
        """See `Cluster`."""
        given = (str(Path.cwd()), call, *given)
        self._calls.append(_Begun(given, self._job(given)))
        return len(self._calls) - 1

    def ended(self, begun: Sequence[Any], seconds: float) -> list[Any]:
        """See `Cluster`."""
        until = time.monotonic() + seconds
        while True:
            self._ask(begun)
            done = [number for number in begun if self._has_ended(self._calls[number])]
            if done or time.monotonic() >= until:
                return done
            time.sleep(LOOK_SECONDS)

    def result(self, begun: Any) -> Any:
        """See `Cluster`."""
        call = self._calls[begun]
        if not call.has_result:
            if call.queued.state == CANCELLED:
                raise LostError(WAS_CANCELLED.format(call.number))
            last = f"the last, Slurm job {call.number}: {call.queued.state}; see {call.job.paths.stderr}"
            raise LostError(f"its process or machine ended {call.losses + 1} times ({last})")
        found, mistake = call.job.result()
        if mistake is not None:
            raise mistake
        return found

    def interrupt(self, begun: Sequence[Any]) -> None:
        """See `Cluster`."""
        self._is_ending = True
        found = (queue() or {}) if KIND == "slurm" else {}
        for number in begun:
            call = self._calls[number]
            if found.get(call.number, GONE).state == PENDING:  # has nothing to save
                scancel(call.number)
                call.queued, call.has_ended = Queued(CANCELLED), True
            else:
                _signal(call)

    def who_cancelled(self, begun: Any) -> str:
        """See `Cluster`; a job that Slurm would run again itself leaves the queue, as its call is made by another."""
        call, until = self._calls[begun], time.monotonic() + SECONDS_TO_END
        while KIND == "slurm" and time.monotonic() < until:
            found = queue() or {}
            call.queued = found.get(call.number, GONE) if found else call.queued
            if call.queued.state == PENDING:
                scancel(call.number)
            if call.queued.state == PENDING or call.queued.state in OVER or call.queued == GONE:
                break
            time.sleep(1)  # it is completing, which hides how
        return WAS_CANCELLED.format(call.number) if call.queued.state == CANCELLED else ""

    def remarks(self) -> list[str]:
        """See `Cluster`."""
        new = [sentence for reason, sentence in self._remarks.items() if reason not in self._told]
        self._told |= set(self._remarks)
        return new

    def close(self) -> None:
        """See `Cluster`."""
        if self._is_ending and KIND == "slurm":
            for call in self._calls:
                if not call.has_ended:  # or it would train on, and nobody would look
                    scancel(call.number)

    def _job(self, given: tuple[Any, ...]) -> Any:
        """Raises UsageError if Slurm does not take the job."""
        import submitit

        try:
            return self._executor.submit(Again(), *given)
        except submitit.core.utils.FailedJobError as error:
            why = "; ".join(line.removeprefix("sbatch: error: ") for line in str(error).strip().splitlines())
            own = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("SBATCH_")]
            what = "SBATCH_PARTITION, SBATCH_ACCOUNT and SBATCH_TIMELIMIT choose where; `sinfo` shows partitions"
            told = " ".join(own) or "no SBATCH_ variable is set"
            raise UsageError(f"--on slurm: sbatch refuses the job ({told}): {why}. {what}") from None

    def _ask(self, begun: Sequence[Any]) -> None:
        """Asks Slurm about all jobs at once, now and then."""
        pause = SIGNAL_SECONDS if self._is_ending else ASK_SECONDS
        if KIND != "slurm" or time.monotonic() < self._asked + pause:
            return
        found = queue()
        self._asked = time.monotonic()
        if found is None:
            self._remarks["silent"] = "Slurm does not answer (squeue); jobs go on, waiting for their results"
            return
        open_ones = [self._calls[number] for number in begun]
        for call in open_ones:
            before, call.queued = call.queued.state, found.get(call.number, GONE)
            call.has_ended = call.has_ended or (before == PENDING and call.queued.state == CANCELLED)  # it never ran
        self._remarks |= waits(found, [call.number for call in open_ones])

    def _has_ended(self, call: _Begun) -> bool:
        """Whether a call has ended for good; one whose job was lost begins again."""
        if call.has_ended or call.has_result:
            call.has_ended = True
        elif self._job_is_over(call):
            now = time.monotonic()
            call.gone_until = call.gone_until or now + LAG_SECONDS
            if self._is_ending or (now >= call.gone_until and not call.has_result):  # at the end, no result is read
                self._lost(call)
        elif self._is_ending and time.monotonic() >= call.signalled + SIGNAL_SECONDS:
            _signal(call)
        return call.has_ended

    @staticmethod
    def _job_is_over(call: _Begun) -> bool:
        if KIND != "slurm":
            return bool(call.job.done(force_check=True))
        return call.queued.state in OVER or call.queued == GONE

    def _lost(self, call: _Begun) -> None:
        if self._is_ending or call.queued.state == CANCELLED or call.losses >= MOST_LOSSES:
            call.has_ended = True
            return
        call.job, call.losses = self._job(call.given), call.losses + 1
        call.queued, call.gone_until = SUBMITTED, None


def _signal(call: _Begun) -> None:
    """What lets a training save."""
    call.signalled = time.monotonic()
    if KIND == "slurm":
        scancel(call.number, "--signal=TERM")
    else:
        with contextlib.suppress(OSError):
            os.kill(int(call.number), signal.SIGTERM)
