"""Memory that processes of one machine share; what lies in it needs no connection."""

import contextlib
import mmap
import os

import torch


class SharedMemory:
    """So many bytes that processes share until the last of them ends. Linux alone has it.

    It has no name in a file system, and counts against no bound of `/dev/shm`, which containers keep small.
    """

    def __init__(self, place: str, size: int) -> None:
        """Opens what another process made; raises OSError where this one cannot."""
        handle = os.open(place, os.O_RDWR)
        try:
            mapped = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        self.bytes = torch.frombuffer(mapped, dtype=torch.uint8)  # (size,)
        self._handle: int | None = None

    @classmethod
    def made(cls, size: int) -> tuple["SharedMemory", str]:
        """Makes it; and the place where other processes open it, until `close`.

        Raises OSError where the system has no such memory, or too little left.
        """
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memfd_create")
        handle = os.memfd_create("fieldguide")
        try:
            os.posix_fallocate(handle, 0, size)  # with too little memory an error here, and no signal later
            place = f"/proc/{os.getpid()}/fd/{handle}"
            memory = cls(place, size)
        except OSError:
            os.close(handle)
            raise
        memory._handle = handle
        return memory, place

    def close(self) -> None:
        """No further process can open it; those that did keep it."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
