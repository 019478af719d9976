"""The stack on which a thread takes signals, kept while a library replaces it."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Gives this thread its stack for signals back on exit.

    Python takes signals there. OpenVINO, when it compiles a network, puts a stack of its own in its place, which is
    freed with the network; the next Ctrl-C then ends the process with a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    system, before = ctypes.CDLL(None), _Stack()
    is_known = system.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if is_known:
            system.sigaltstack(ctypes.byref(before), None)
