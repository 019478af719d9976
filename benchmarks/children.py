"""Runs a command to its end: wall-clock seconds, peak memory, output."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import paths

SOURCE = Path(__file__).resolve().parent.parent / "src"
SAMPLE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        wall_seconds: from its start to its end.
        other_cores: cores that other processes kept busy meanwhile, in the mean; None where the system does not tell.
        peaks: of memory, in GB.
        output, complaint: what it wrote to stdout and stderr.
        failure: why it did not end well; empty where it did.
    """

    wall_seconds: float = 0.0
    other_cores: float | None = None
    peaks: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    output: str = ""
    complaint: str = ""
    failure: str = ""


def run(command: Sequence[str], folder: Path, timeout_seconds: int, tunables: str = "") -> Ended:
    """Runs a command in a folder, fieldguide being what stands beside these scripts."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(SOURCE)
    if tunables:
        environment["GLIBC_TUNABLES"] = tunables
    with tempfile.TemporaryFile() as errors:
        busy, own, began = _busy_seconds(), _own_seconds(), time.perf_counter()
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder, start_new_session=True
        )
        memory = _Memory(child.pid)
        try:
            output, _ = child.communicate(timeout=timeout_seconds)
            wall = time.perf_counter() - began
        except subprocess.TimeoutExpired:
            return Ended(failure=f"could not run: took more than {timeout_seconds} s")
        finally:  # with whatever it started, also where this program is interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            memory.stop()
        others = None if busy is None else max(0.0, (_busy_seconds() or busy) - busy - (_own_seconds() - own)) / wall
        errors.seek(0)
        complaint = errors.read().decode(errors="replace")
    failure = f"could not run: {_reason(complaint)}" if child.returncode else ""
    return Ended(wall, others, memory.peaks(), output.decode(errors="replace"), complaint, failure)


def _busy_seconds() -> float | None:
    """Processor seconds that all processes of the machine have used, a virtual machine's stolen ones included."""
    try:
        first, *_ = Path("/proc/stat").read_text().splitlines()
        user, nice, system, _idle, _waiting, irq, softirq, steal, *_ = map(int, first.split()[1:])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor seconds of this process and of all that it waited for."""
    return sum(os.times()[:4])


def _reason(complaint: str) -> str:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return paths.shareable_text(lines[-1])[:300] if lines else "it ended without a word"


class _Memory:
    """Peaks of a process and all below it, sampled, since the kernel keeps none for a family of processes.

    `private_gb` is proportional memory (PSS) that is anonymous or shared memory, without mapped files: what the
    machine must hold in RAM. `resident_gb` is the sum of resident sets, pages that processes share counted in each.
    """

    def __init__(self, pid: int) -> None:
        self.private = self.resident = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=(pid,), daemon=True)
        self._thread.start()

    def _sample(self, pid: int) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            readings = [_memory_of(process) for process in _family(pid)]
            self.private = max(self.private, sum(private for private, _ in readings))
            self.resident = max(self.resident, sum(resident for _, resident in readings))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def peaks(self) -> dict[str, float | None]:
        return {
            "private_gb": self.private * 1024 / 1e9 if self.private else None,
            "resident_gb": self.resident * 1024 / 1e9 if self.resident else None,
        }


def _family(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def _memory_of(pid: int) -> tuple[int, int]:
    """(anonymous and shared PSS, RSS) in kB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return fields.get("Pss_Anon", 0) + fields.get("Pss_Shmem", 0), fields.get("Rss", 0)
