"""Calls as Ray tasks."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import MOST_LOSSES, Cluster, LostError, Share, in_folder
from fieldguide.cluster.ray_connection import Connection, answering, connect, disconnect, most_on_a_node
from fieldguide.errors import FieldguideError, MachineError, UsageError, counted


class RayTasks(Cluster):
    """Each call is a task, which Ray makes again where its process or node dies."""

    def __init__(self, address: str | None, share: Share) -> None:
        """Connects, or starts a cluster of this machine; raises UsageError if nothing answers or no node is enough."""
        import ray

        self._connection = connect(address)
        try:
            cpus, gpus = most_on_a_node()
            self._gpus = share.gpus if share.gpus is not None else min(1, gpus)
            if self._connection is Connection.STARTED and (share.cpus > cpus or self._gpus > gpus):  # others may grow
                raise UsageError(
                    f"--cpus-per-trial {share.cpus:g} --gpus-per-trial {self._gpus:g}: this machine has {cpus:g} CPUs "
                    f"and {gpus:g} GPUs; ask for less"
                )
        except BaseException:
            self.close()
            raise
        where = "this machine" if self._connection is Connection.STARTED else counted(len(ray.nodes()), "node")
        told = f"{ray.cluster_resources().get('CPU', 0):g} CPUs, {ray.cluster_resources().get('GPU', 0):g} GPUs"
        self._sentence = f"Ray on {where} ({told})"
        own = {"num_cpus": share.cpus, "num_gpus": self._gpus, "max_retries": MOST_LOSSES}
        self._task = ray.remote(**own)(in_folder)  # with OMP_NUM_THREADS as its CPUs, which Ray sees to

    @property
    def sentence(self) -> str:
        """See `Cluster`."""
        return self._sentence

    def shared(self, value: Any) -> Any:
        """See `Cluster`."""
        import ray

        return ray.put(value)

    def submit(self, call: Callable[..., Any], *given: Any) -> Any:
        """See `Cluster`."""
        with answering():
            return self._task.remote(str(Path.cwd()), call, *given)

    def ended(self, begun: Sequence[Any], seconds: float) -> list[Any]:
        """See `Cluster`."""
        import ray

        with answering():
            done, _ = ray.wait(list(begun), num_returns=len(begun), timeout=seconds, fetch_local=False)
        return list(done)

    def result(self, begun: Any) -> Any:
        """See `Cluster`."""
        import ray

        try:
            with answering():
                return ray.get(begun)
        except ray.exceptions.RayTaskError as error:  # what the call itself raised
            if isinstance(error.cause, FieldguideError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            why = str(error).strip().split("\n", 1)[0]
            raise LostError(f"its process or machine ended {MOST_LOSSES + 1} times ({why})") from None

    def interrupt(self, begun: Sequence[Any]) -> None:
        """See `Cluster`."""
        import ray

        with contextlib.suppress(MachineError), answering():  # the head is gone; trainings end with it
            for each in begun:
                ray.cancel(each)

    def close(self) -> None:
        """See `Cluster`."""
        disconnect(self._connection)
