"""Several processes that train together: the only file that knows torch.distributed.

torchrun, or `fieldguide train --processes N`, starts them. Rank 0 runs the command; the others wait for it, however
long it looks at photos, and then follow (`training/together.py`). Orders go through gloo, tensors on GPUs through NCCL.
A process that is lost is noticed by its closed connection, or by the launcher, which ends the rest: so the group itself
has no time-out that a long look or probe could hit.
"""

import contextlib
import functools
import logging
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from fieldguide.errors import FieldguideError, MachineError, UsageError
from fieldguide.world import beside, cores
from fieldguide.world.exchange import Exchange
from fieldguide.world.pipes import Pipes, joined
from fieldguide.world.tensors import by_kind, flat, put_back

PATIENCE = timedelta(days=7)
BEGIN = "fieldguide/begin"  # a key in the launcher's store
FINE, NOT_FINE = 0, 1
SHUTDOWN = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"  # seconds from a signal until the launcher kills
SHUTDOWN_SECONDS = 60


class LostProcessError(MachineError):
    """Another process of the training is gone."""


class OutOfMemoryElsewhereError(RuntimeError):
    """Another process has no memory left for this step, so this one gives it up too."""

    def __init__(self) -> None:
        super().__init__("out of memory in another process of this training")


def part_of(count: int, number: int, of: int) -> tuple[int, int]:
    """Start and stop of one of `of` nearly equal runs of `count` things; the first ones are the longer ones."""
    least, more = divmod(count, of)
    start = number * least + min(number, more)
    return start, start + least + (number < more)


class Team:
    """The processes of this training, this one among them.

    Every method must be called by all of them in the same order; where one of them is gone, it raises LostProcessError.
    """

    def __init__(self, rank: int, size: int) -> None:
        """This process is number `rank`, from 0, of `size`."""
        self.rank = rank
        self.size = size
        self.is_joined = self.is_lost = False
        self.meets_in_layers = False  # whether layers of the network exchange sums, so that nobody may leave one out
        self._pipes: Pipes | None = None  # between processes of one machine
        self.exchange = Exchange(rank, size, self.agree, self.tell, self.hear, is_possible=beside() == size)

    def part(self, count: int) -> tuple[int, int]:
        """Start and stop of this process's part of `count` things."""
        return part_of(count, self.rank, self.size)

    def most(self, count: int) -> int:
        """The size of the largest part of `count` things."""
        return -(-count // self.size)

    def join(self, device: torch.device | None = None) -> bool:
        """Makes the group, once, for tensors on the leader's device; the others wait here until it does.

        False for the others: the leader ended without a training.
        """
        if self.is_joined:
            return True
        with self._noticing():
            store = _store()
            if self.rank == 0:
                store.set(BEGIN, "none" if device is None else device.type)
            kind = store.get(BEGIN).decode()  # waits until it is there
        if kind == "none":
            return False
        if kind == "cuda":
            torch.cuda.set_device(local_rank())
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        with self._noticing():
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        self.is_joined = True
        if beside() == self.size:
            self._pipes = joined(self.rank, self.size, self.agree, self.tell, self.hear)
        return True

    def tell(self, order: object) -> None:
        """Gives the others an order: plain data that pickles."""
        with self._noticing():
            dist.broadcast_object_list([order], src=0, device=torch.device("cpu"))

    def hear(self) -> Any:
        """The leader's next order."""
        heard: list[Any] = [None]
        with self._noticing():
            dist.broadcast_object_list(heard, src=0, device=torch.device("cpu"))
        return heard[0]

    def agree(self, code: int) -> list[int]:
        """The small number that each process gives, by rank."""
        if self._pipes is not None:
            return [each for each, _ in self._gathered(code)]
        own, found = torch.tensor([code]), [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._noticing():
            dist.all_gather(found, own)
        return [int(each) for each in found]

    def raise_problem(self, problem: FieldguideError | None) -> None:
        """Raises in the leader what went wrong in another process, once `agree` said that something did."""
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with self._noticing():
            dist.gather_object(problem, found)
        for error in found or ():
            if error is not None:
                raise error

    def demand_memory(self) -> None:
        """Raises OutOfMemoryElsewhereError if a process says `agree(NOT_FINE)` here: it gives up this step."""
        if any(self.agree(FINE)):
            raise OutOfMemoryElsewhereError

    def share(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrites the tensors with those of the leader."""
        for group in by_kind(tensors):
            if self.exchange.share(group):
                continue
            values = flat(group)
            with self._noticing():
                dist.broadcast(values, src=0)
            if self.rank:
                put_back(values, group)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrites the leader's tensors with the sums over all processes."""
        for group in by_kind(tensors):
            if self.exchange.add_up(group):
                continue
            values = flat(group)
            with self._noticing():
                dist.reduce(values, dst=0)
            if self.rank == 0:
                put_back(values, group)

    def every(self, tensor: torch.Tensor) -> torch.Tensor:
        """(size, *shape): each process's tensor, by rank."""
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._noticing():
            dist.all_gather(found, tensor)
        return torch.stack(found)

    def every_in_step(self, tensor: torch.Tensor) -> torch.Tensor:
        """As `every`; raises OutOfMemoryElsewhereError if a process gives up this step by `agree(NOT_FINE)`."""
        if self._pipes is None or tensor.device.type != "cpu":
            self.demand_memory()
            return self.every(tensor)
        found = self._gathered(FINE, tensor.numpy().tobytes())
        if any(code for code, _ in found):
            raise OutOfMemoryElsewhereError
        values = bytearray().join(each for _, each in found)
        return torch.frombuffer(values, dtype=tensor.dtype).view(self.size, *tensor.shape)

    def _gathered(self, code: int, values: bytes = b"") -> list[tuple[int, bytes]]:
        assert self._pipes is not None
        with self._noticing():
            return self._pipes.all_gather(code, values)

    def send_home(self) -> None:
        """The leader tells the others that its command is done."""
        if not self.is_joined:
            self.join(None)
        elif not self.is_lost:
            with contextlib.suppress(LostProcessError):
                self.tell(None)

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            self.is_lost = True
            first = (str(error).splitlines() or ["its pipe closed"])[0][:200]
            raise LostProcessError(f"another process of this training ended ({first})") from error


_team: Team | None = None


def is_launched() -> bool:
    """Whether torchrun started this process among others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def begin() -> Team:
    """This process's team; from now on `team` returns it."""
    global _team
    _team = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return _team


def team() -> Team | None:
    """The processes that train together; None: this one is alone."""
    return _team


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def problem_with_device(device: torch.device) -> str | None:
    """Why the processes of this machine cannot share a training on it."""
    if _team is None or device.type == "cpu":
        return None
    if device.type == "mps":
        return "--device mps: several processes train on CPUs or NVIDIA GPUs; use --device cpu, or one process"
    count, there = beside(), torch.cuda.device_count()
    if count > there:
        return f"--processes {count}: this machine has {there} GPUs; start at most {there}, or use --device cpu"
    if device.index:
        return f"--device {device}: each process takes a GPU of its own; choose them by CUDA_VISIBLE_DEVICES"
    return None


def own_device(device: str) -> torch.device:
    """This process's device, where the leader's is `device`."""
    return torch.device("cuda", local_rank()) if device.startswith("cuda") else torch.device("cpu")


def launch(processes: int, command: Sequence[str]) -> int:
    """Runs `python *command` in so many processes through torch's elastic launcher; returns the exit code.

    Processors are shared out evenly, unless OMP_NUM_THREADS says something else. A signal goes to all processes.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if not dist.is_available():
        raise UsageError("--processes: this build of torch has no torch.distributed; leave it out")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    os.environ.setdefault(SHUTDOWN, str(SHUTDOWN_SECONDS))
    logging.disable(logging.CRITICAL)  # rank 0 says what went wrong; the launcher would say it again, at length
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        code = int(error.failures[0].exitcode) if 0 in error.failures else MachineError.exit_code
        return code if code > 0 else 128 - code  # a signal that killed it
    return 0


@functools.cache
def _store() -> Any:
    """The store that the launcher keeps for its processes."""
    store, *_ = next(rendezvous("env://", timeout=PATIENCE))
    store.set_timeout(PATIENCE)
    return store
