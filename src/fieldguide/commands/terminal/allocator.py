"""Makes glibc keep its memory, before a command starts; knows only the environment.

A training step allocates and frees the same large blocks again and again. By default glibc returns each to the system,
which clears it again: these page faults cost about a tenth of a step (docs/performance.md).
"""

import os
import platform
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
SWITCH = "FIELDGUIDE_ALLOCATOR"
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # huge pages, where the system offers them
        "glibc.malloc.mmap_threshold=4294967296",  # no separate mapping per block
        "glibc.malloc.trim_threshold=68719476736",  # return nothing
        "glibc.malloc.top_pad=268435456",  # grow by 256 MiB at a time
    )
)


def setting(environment: Mapping[str, str]) -> str:
    """What the allocator does in this environment, as the end of a sentence."""
    if environment.get(VARIABLE) == TUNABLES:
        return f"keeps its memory ({VARIABLE}={TUNABLES})"
    if environment.get(VARIABLE):
        return f"as {VARIABLE} says: {environment[VARIABLE]}"
    if not _is_glibc():
        return "system default; there are no settings outside glibc"
    if environment.get(SWITCH) == "system":
        return f"system default, as {SWITCH}=system asks"
    return "system default; the fieldguide command changes it for itself"


def start_again_with_settings(environment: Mapping[str, str]) -> None:
    """Restarts this command with the settings; returns if there is nothing to do.

    The variable is read when a process starts, so it cannot be set from inside. A value that you set yourself stays,
    and `FIELDGUIDE_ALLOCATOR=system` keeps the default. Other processes (a notebook, a test, a program on standard
    input) are not restarted.
    """
    if not _is_glibc() or environment.get(VARIABLE) or environment.get(SWITCH) == "system" or not _is_own_process():
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, VARIABLE: TUNABLES})
    except OSError:
        return  # without the settings: slower, but correct


def _is_own_process() -> bool:
    """Whether this process was started for this command, from a file or a module."""
    own = sys.argv[1:]
    return sys.argv[0] not in ("", "-", "-c") and bool(own) and sys.orig_argv[-len(own) :] == own


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
