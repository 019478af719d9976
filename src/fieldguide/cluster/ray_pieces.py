"""Pieces of work through a pool of Ray Data's actors, which hold what is dear to make; Ray Data keeps them all busy."""

import contextlib
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import ADDRESS, RAY, LostError, Share
from fieldguide.cluster.ray_connection import (
    FROM_ENVIRONMENT,
    Connection,
    connect,
    disconnect,
    most_on_a_node,
)
from fieldguide.errors import FieldguideError, UsageError, speaking_flags, speaks_flags

PIECE = "piece"


class _Actor:
    """Makes its worker once, in its own process, and calls it with each piece."""

    def __init__(self, folder: str, flags: bool, make: Callable[..., Any], given: Sequence[Any]) -> None:
        os.chdir(folder)
        self._flags, self._make, self._given = flags, make, given
        self._work: Any = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """A batch of one piece, pickled, to what became of it, pickled: (result, None) or (None, the mistake)."""
        outcome: tuple[Any, FieldguideError | None]
        piece = pickle.loads(batch[PIECE][0])
        with speaking_flags() if self._flags else contextlib.nullcontext():
            try:
                if self._work is None:
                    self._work = self._make(*self._given)
                outcome = self._work(piece), None
            except FieldguideError as error:
                outcome = None, error
        return {PIECE: [pickle.dumps(outcome)]}


def demand_place_for_pieces(on: str) -> None:
    """Raises UsageError for Ray's client: Ray Data works in a process on the cluster alone."""
    address = os.environ.get(FROM_ENVIRONMENT, "") if on == RAY else on
    if address.startswith(ADDRESS):
        named = f"{FROM_ENVIRONMENT}={address}" if on == RAY else f"--on {on}"
        raise UsageError(
            f"{named}: predictions need a process on the cluster; run this there with --on ray, or as a job: "
            "ray job submit -- fieldguide predict ... --on ray"
        )


class RayPieces:
    """A Ray cluster for pieces of work. Used as a context: it lets go of the cluster at the end."""

    def __init__(self, on: str, share: Share) -> None:
        """Connects, or starts a cluster of this machine; raises UsageError if nothing answers or no node is enough."""
        import ray

        self._connection = connect(None if on == RAY else on)
        try:
            cpus, gpus = most_on_a_node()
            self._gpus = share.gpus if share.gpus is not None else min(1, gpus)
            self._cpus = share.cpus
            if self._connection is Connection.STARTED and (self._cpus > cpus or self._gpus > gpus):
                raise UsageError(f"--cpus-per-actor, --gpus-per-actor: a node has {cpus:g} CPUs and {gpus:g} GPUs")
            has = ray.cluster_resources()
            room = [has.get("CPU", 0) / self._cpus] + ([has.get("GPU", 0) / self._gpus] if self._gpus else [])
            self.actors = max(1, int(min(room)))
        except BaseException:
            disconnect(self._connection)
            raise

    def __enter__(self) -> "RayPieces":
        return self

    def __exit__(self, *_: object) -> None:
        disconnect(self._connection)

    def results(self, make: Callable[..., Any], given: Sequence[Any], pieces: Sequence[Any]) -> Iterator[Any]:
        """`make(*given)(piece)` of each piece, in the order in which they end.

        An actor that dies is replaced and its piece made again, without end: `make`'s worker counts the tries itself.
        Raises the first mistake of the user that a piece raises, or LostError.
        """
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        folder = str(Path.cwd())
        rows = [{PIECE: pickle.dumps(piece)} for piece in pieces]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(folder, speaks_flags(), make, given),
            batch_size=1,
            batch_format="numpy",
            num_cpus=self._cpus,
            num_gpus=self._gpus or None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(self.actors, len(rows))),
        )
        try:
            for row in data.iter_rows():
                result, mistake = pickle.loads(row[PIECE])
                if mistake is not None:
                    raise mistake
                yield result
        except ray.exceptions.RayError as error:
            told = [line for line in str(error).strip().split("\n") if line.strip()]
            raise LostError(f"Ray could not go on ({told[-1] if told else error}); go on with --resume") from None
