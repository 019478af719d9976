"""To a Ray cluster and back: one that runs, or one of this machine alone."""

import logging
import os
from typing import Any

from fieldguide.errors import UsageError

FROM_ENVIRONMENT = "RAY_ADDRESS"
QUIET = {  # nobody is told of this machine, processes of our own cluster are as nice as this one, and say nothing here
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def connect(address: str | None) -> bool:
    """Connects to a cluster, or starts one of this machine alone; whether it was started.

    Args:
        address: `ray://HOST:PORT`; None: what RAY_ADDRESS says, or a new one.

    Raises:
        UsageError: nothing answers there.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray

    if ray.is_initialized():  # by the program that calls us
        return False
    address = address or os.environ.get(FROM_ENVIRONMENT)
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", include_dashboard=False, num_cpus=_cores(), **how)
        return True
    try:
        ray.init(address=address, **how)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().split("\n", 1)[0]
        raise UsageError(f"--on {address}: no Ray cluster answers there ({why})") from None
    return False


def disconnect(*, is_ours: bool) -> None:
    """Lets go of a cluster; one that `connect` started ends."""
    import ray

    if is_ours:
        ray.shutdown()


def most_on_a_node() -> tuple[float, float]:
    """The most CPUs and the most GPUs of any node."""
    import ray

    own = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max((has.get("CPU", 0) for has in own), default=0), max((has.get("GPU", 0) for has in own), default=0)


def _cores() -> int:
    """The CPUs that this process may use; Ray would count those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
