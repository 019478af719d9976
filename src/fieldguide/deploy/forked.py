"""Processes that were forked: the threads of OpenMP, and a GPU's state, do not survive a fork."""

import os

import torch

from fieldguide.errors import UsageError

_imported_in = os.getpid()
_settled_in = os.getpid()


def is_forked() -> bool:
    """Whether this process was forked from one that had imported this module and may have computed since."""
    return os.getpid() != _imported_in


def settle_after_fork(device: torch.device) -> None:
    """Before the first tensor of a forked process: one thread, for more would wait forever for the parent's.

    Raises:
        UsageError: the parent used the GPU, which no forked process can use after it.
    """
    global _settled_in
    if os.getpid() == _settled_in:
        return
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise UsageError(
            "a forked process cannot use the GPU that its parent used: "
            'start it with multiprocessing.get_context("spawn"), or choose device cpu'
        )
    torch.set_num_threads(1)
    _settled_in = os.getpid()
