"""Several tensors as one piece of memory, which a process sends or shares as a whole."""

import itertools
import zlib
from collections.abc import Sequence

import torch

ALIGNED = 64  # bytes


def by_kind(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors without those that hold nothing, those of one type together."""
    found: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            found.setdefault(tensor.dtype, []).append(tensor.detach())
    return list(found.values())


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Their values, one tensor after the other, in a new one."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def put_back(values: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Overwrites the tensors with what `flat` made of others."""
    ends = list(itertools.accumulate(tensor.numel() for tensor in tensors))
    pieces = values.tensor_split(ends[:-1])
    for piece, tensor in zip(pieces, tensors, strict=True):
        tensor.copy_(piece.view(tensor.shape))


def layout(tensors: Sequence[torch.Tensor]) -> int:
    """A number below 2**32 that differs for tensors which lie in memory in another way."""
    return zlib.crc32(repr([(tuple(tensor.shape), tensor.stride()) for tensor in tensors]).encode())


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """What `views` needs."""
    return sum(map(_aligned, tensors))


def views(memory: torch.Tensor, tensors: Sequence[torch.Tensor], *, as_they_lie: bool) -> list[torch.Tensor]:
    """Bytes as tensors of these types and shapes.

    Args:
        memory: (bytes,) uint8, at least `bytes_of(tensors)` of them.
        as_they_lie: the values in the order in which the tensors have them in memory, which is fast to copy and to add
            up; else row by row.
    """
    starts = itertools.accumulate(map(_aligned, tensors), initial=0)
    found = []
    for start, tensor in zip(starts, tensors, strict=False):
        own = memory[start : start + tensor.nbytes].view(tensor.dtype)
        strided = as_they_lie and _is_dense(tensor)
        found.append(own.as_strided(tensor.shape, tensor.stride()) if strided else own.view(tensor.shape))
    return found


def _aligned(tensor: torch.Tensor) -> int:
    return -(-tensor.nbytes // ALIGNED) * ALIGNED


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
