"""The cluster that `--on` names."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fieldguide.cluster.jobs import RAY, SLURM, Cluster, Share, demand_place
from fieldguide.cluster.ray_tasks import RayTasks
from fieldguide.cluster.slurm_jobs import SlurmJobs


@contextlib.contextmanager
def opened(on: str, share: Share, logs: Path) -> Iterator[Cluster]:
    """The cluster that `--on` names.

    Args:
        on: `ray` (RAY_ADDRESS, or a cluster of this machine that is started and ended), `ray://HOST:10001` or `slurm`.
        share: what each call takes.
        logs: a folder that all machines see, for what Slurm's jobs print.

    Raises:
        UsageError: no such place, its package is missing, or a call would fit on none of its machines.
    """
    demand_place(on)
    cluster: Cluster = SlurmJobs(share, logs) if on == SLURM else RayTasks(None if on == RAY else on, share)
    try:
        yield cluster
    finally:
        cluster.close()
