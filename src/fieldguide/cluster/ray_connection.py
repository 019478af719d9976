"""To a Ray cluster and back: one that runs, or one of this machine alone."""

import contextlib
import enum
import importlib.util
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any

from fieldguide.cluster.jobs import ADDRESS
from fieldguide.errors import MachineError, UsageError

FROM_ENVIRONMENT = "RAY_ADDRESS"
QUIET = {  # nobody is told of this machine, processes of our own cluster are as nice as this one, and say nothing here
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
SECONDS_TO_REACH = 10  # a machine; Ray would try for 30 s, and not say that nothing listens
TOKEN = "if it wants a token, set RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN_PATH"  # Ray calls that a timeout


class Connection(enum.Enum):
    """Whose a cluster is."""

    FOUND = "the program that calls us had connected"
    JOINED = "it ran before us, and goes on"
    STARTED = "it is of this machine, and ends with us"


def connect(address: str | None) -> Connection:
    """Connects to a cluster, or starts one of this machine alone.

    Args:
        address: `ray://HOST:PORT`; None: what RAY_ADDRESS says, or a new one.

    Raises:
        UsageError: nothing answers there.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray

    if ray.is_initialized():
        return Connection.FOUND
    named = f"--on {address}" if address else f"{FROM_ENVIRONMENT}={os.environ.get(FROM_ENVIRONMENT)}"
    address = address or os.environ.get(FROM_ENVIRONMENT)
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        ray.init(address="local", include_dashboard=False, num_cpus=_cores(), **how)
        return Connection.STARTED
    if address.startswith(ADDRESS):
        _demand_listener(address, named)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **how)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().split("\n", 1)[0]
        raise UsageError(f"{named}: no Ray cluster answers there ({why}); {TOKEN}") from None
    return Connection.JOINED


def disconnect(connection: Connection) -> None:
    """Lets go of a cluster that `connect` connected to; one that it started ends."""
    import ray

    if connection is not Connection.FOUND:
        with contextlib.suppress(ConnectionError):  # the head is gone
            ray.shutdown()


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raises MachineError where the cluster's head is gone; Ray's client tries to reach it for half a minute."""
    import ray

    try:
        if not ray.is_initialized():  # or the call would start another cluster, of this machine
            raise ConnectionError("it was lost before")
        yield
    except ConnectionError as error:
        why = str(error).strip().split("\n", 1)[0]
        what = "Start it again; the same command goes on from the checkpoints"
        raise MachineError(f"the Ray cluster no longer answers ({why}). {what}") from None


def most_on_a_node() -> tuple[float, float]:
    """The most CPUs and the most GPUs of any node."""
    import ray

    own = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max((has.get("CPU", 0) for has in own), default=0), max((has.get("GPU", 0) for has in own), default=0)


def _demand_listener(address: str, named: str) -> None:
    """Raises UsageError if no server listens at `ray://HOST:PORT`, or if Ray's client lacks its package."""
    if importlib.util.find_spec("grpc") is None:
        raise UsageError(f"{named}: needs the package grpcio: pip install 'fieldguide[ray]'")
    host, _, port = address.removeprefix(ADDRESS).partition("?")[0].strip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{named}: must be {ADDRESS}HOST:PORT, such as {ADDRESS}head:10001")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_REACH).close()
    except (OSError, OverflowError) as error:
        what = "is the head running, with its client server on that port?"
        raise UsageError(f"{named}: nothing answers at {host}:{port} ({error}); {what}") from None


def _cores() -> int:
    """The CPUs that this process may use; Ray would count those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
