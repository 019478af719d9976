"""glibc told to keep the memory that it was given, before a command starts; knows nothing but the environment.

A training step takes and returns the same large blocks again and again. By default glibc hands each one back to the
system, and the system clears it anew: page faults that cost about a tenth of a step (docs/performance.md).
"""

import os
import platform
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
SWITCH = "FIELDGUIDE_ALLOCATOR"
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # huge pages where the system gives them when asked
        "glibc.malloc.mmap_threshold=4294967296",  # no block gets a mapping of its own
        "glibc.malloc.trim_threshold=68719476736",  # nothing is handed back
        "glibc.malloc.top_pad=268435456",  # grow by 256 MiB at a time
    )
)


def setting(environment: Mapping[str, str]) -> str:
    """What the allocator of a process with this environment does, as a sentence's end."""
    if environment.get(VARIABLE) == TUNABLES:
        return f"keeps its memory ({VARIABLE}={TUNABLES})"
    if environment.get(VARIABLE):
        return f"as {VARIABLE} says: {environment[VARIABLE]}"
    if not _is_glibc():
        return "the system's own; nothing to set outside glibc"
    if environment.get(SWITCH) == "system":
        return f"the system's own, as {SWITCH}=system asks"
    return "the system's own; the fieldguide command sets it for itself"


def start_again_with_settings(environment: Mapping[str, str]) -> None:
    """Puts this command in its own place once more, with the settings; returns where there is nothing to do.

    The variable is read when a process starts, so it cannot be set from inside. A person's own value is left alone,
    and `FIELDGUIDE_ALLOCATOR=system` leaves the system's. A process that was started for something else (a notebook, a
    test, a program on its standard input) is left alone, too.
    """
    if not _is_glibc() or environment.get(VARIABLE) or environment.get(SWITCH) == "system" or not _is_own_process():
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, VARIABLE: TUNABLES})
    except OSError:
        return  # as it was: slower, and right all the same


def _is_own_process() -> bool:
    """Whether the command's arguments are those that this process was started with, from a file or a module."""
    own = sys.argv[1:]
    return sys.argv[0] not in ("", "-", "-c") and bool(own) and sys.orig_argv[-len(own) :] == own


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
