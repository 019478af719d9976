"""Memory and processor time that are left to this process, also within a container or a group of a cluster."""

import contextlib
import math
from pathlib import Path


def available_of_machine() -> int | None:
    """Bytes of memory that the machine has left; None where it does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def available_of_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's bound leaves, files that the kernel only keeps read included; None without a bound."""
    left = None
    with contextlib.suppress(OSError, ValueError, KeyError):
        left = int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
        told = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        left += int(told["active_file"]) + int(told["inactive_file"])
    return left


def cores_of_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What bounds on the CPU time of a container and of the groups that it is in leave, rounded up; None without."""
    quotas = []
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            top = root / "cpu" if kinds else root  # version 1, else 2
            group = top / path.lstrip("/")
            quotas += [_quota(place) for place in (group, *group.parents) if place.is_relative_to(top)]
    return min((math.ceil(quota) for quota in quotas if quota), default=None)


def _quota(group: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):  # not there, or `max`
        quota, period = map(int, (group / "cpu.max").read_text().split())
        return quota / period
    with contextlib.suppress(OSError, ValueError):
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (int((group / name).read_text()) for name in files)
        return quota / period if quota > 0 else None
    return None
