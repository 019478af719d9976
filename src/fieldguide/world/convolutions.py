"""How cuDNN chooses among its algorithms for a convolution."""

import contextlib
from collections.abc import Iterator

import torch


def cudnn_modes(execution: str) -> dict[str, bool]:
    """`fast` times the algorithms for each new shape and takes the fastest; `exact` takes one that repeats its sums."""
    return {"benchmark": execution == "fast", "deterministic": execution == "exact"}


@contextlib.contextmanager
def convolutions(execution: str) -> Iterator[None]:
    """Computes in these modes inside, and leaves the caller's as they were; without cuDNN nothing changes."""
    modes, cudnn = cudnn_modes(execution), torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = modes["benchmark"], modes["deterministic"]
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
