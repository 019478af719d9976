"""What any cluster does, and how it is named on the command line."""

import abc
import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fieldguide.errors import MachineError, UsageError

RAY, SLURM = "ray", "slurm"
ADDRESS = "ray://"
MOST_LOSSES = 3  # a call whose process or machine ends is made again so many times


class LostError(MachineError):
    """A call's process or machine ended more often than it is made again."""


@dataclass(frozen=True)
class Share:
    """What one call may take of a machine. A part of a GPU is one that calls share."""

    cpus: float = 1
    gpus: float | None = None  # None: one where there are any

    def demand(self, each: str) -> None:
        """Raises UsageError if it cannot be; `each` ends the names of the options."""
        if not self.cpus > 0 or (self.gpus is not None and not self.gpus >= 0):
            raise UsageError(f"--cpus-per-{each}: must be above 0, and --gpus-per-{each} 0 or more")


class Cluster(abc.ABC):
    """Runs calls in other processes, on this machine or others; one that is lost with its process is made again."""

    @abc.abstractmethod
    def submit(self, call: Callable[..., Any], *given: Any) -> Any:
        """Begins `call(*given)` where there is room, and gives what stands for it; all of it must pickle."""

    @abc.abstractmethod
    def ended(self, begun: Sequence[Any], seconds: float) -> list[Any]:
        """Those of `begun` that have ended, after at most so many seconds."""

    @abc.abstractmethod
    def result(self, begun: Any) -> Any:
        """What an ended call gave; raises what it raised, or LostError."""

    @abc.abstractmethod
    def interrupt(self, begun: Sequence[Any]) -> None:
        """Sends what still runs the signal that lets a training save; calls that have not begun never begin."""

    @abc.abstractmethod
    def shared(self, value: Any) -> Any:
        """What to give to `submit` for a value that many calls take; it travels once."""

    def who_cancelled(self, begun: Any) -> str:
        """Of an ended call that a signal stopped: that somebody meant it to stop, in words; empty: its machine did."""
        return ""

    def remarks(self) -> list[str]:
        """New sentences about what holds calls up, each once."""
        return []

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of the machines."""

    @property
    @abc.abstractmethod
    def sentence(self) -> str:
        """Where calls run, such as `Ray on this machine (2 CPUs)`."""


def demand_place(on: str) -> None:
    """Raises UsageError if `--on` names nothing that is known, or if its package is missing."""
    if on not in (RAY, SLURM) and not on.startswith(ADDRESS):
        raise UsageError(f"--on {on}: must be ray, ray://HOST:10001 or slurm")
    package = "submitit" if on == SLURM else "ray"
    if importlib.util.find_spec(package) is None:
        extra = "slurm" if on == SLURM else "ray"
        raise UsageError(f"--on {on}: needs the package {package}: pip install 'fieldguide[{extra}]'")


def in_folder(folder: str, call: Callable[..., Any], *given: Any) -> Any:
    """`call(*given)` with the current folder of the one who asked, so that relative names mean the same.

    Raises UsageError where this machine has no such folder.
    """
    try:
        os.chdir(folder)
    except OSError:
        raise UsageError(f"{folder}: is not on the machine {platform.node()}; all machines need it") from None
    return call(*given)
