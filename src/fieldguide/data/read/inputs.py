"""Photos loaded in their order, with bounded memory."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from fieldguide.data.read.decode import UnreadableError
from fieldguide.data.read.prefetch import prefetched
from fieldguide.world import cores

Source = TypeVar("Source")
MOST_KEPT_BYTES = 1_000_000_000  # 6,600 validation photos at 224 px


@dataclass(frozen=True)
class Inputs(Generic[Source]):
    """Photos to look at, in the order given.

    Attributes:
        images: (batch, 3, height, width) uint8, of the readable ones.
        sources: every source of this stretch, readable or not.
        reasons: a source's reason, or an empty text where it is in `images`.
    """

    images: torch.Tensor
    sources: tuple[Source, ...]
    reasons: tuple[str, ...]


def in_order(
    sources: Iterable[Source], load: Callable[[Source], torch.Tensor], batch_size: int
) -> Iterator[Inputs[Source]]:
    """Loads sources on all cores, in their order, with bounded memory however many there are.

    Args:
        sources: anything `load` takes.
        load: a source to (3, height, width) uint8; raises UnreadableError or MemoryError where it cannot.
        batch_size: sources in one piece.
    """

    def attempt(source: Source) -> tuple[Source, torch.Tensor | str]:
        try:
            return source, load(source)
        except UnreadableError as error:
            return source, str(error)
        except MemoryError:
            return source, "needs more memory than is available"

    # While a piece is used, the next one is loaded.
    with contextlib.closing(prefetched(sources, attempt, most_ahead=max(batch_size, cores()) + 1)) as loaded:
        while piece := list(itertools.islice(loaded, batch_size)):
            yield _inputs(piece)


class KeptInputs(Generic[Source]):
    """What `in_order` gives, loaded again each time it is gone through, or only once where it fits.

    Args:
        sources, load, batch_size: as for `in_order`.
        most_bytes: above, nothing is kept.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        load: Callable[[Source], torch.Tensor],
        batch_size: int,
        most_bytes: int = MOST_KEPT_BYTES,
    ) -> None:
        self._sources = sources
        self._load = load
        self._batch_size = batch_size
        self._most_bytes = most_bytes
        self._kept: list[Inputs[Source]] | None = None

    def __iter__(self) -> Iterator[Inputs[Source]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Inputs[Source]] = []
        taken = 0
        for inputs in in_order(self._sources, self._load, self._batch_size):
            taken += inputs.images.nbytes
            if taken <= self._most_bytes:
                kept.append(inputs)
            else:
                kept.clear()
            yield inputs
        if taken <= self._most_bytes and not any(reason for inputs in kept for reason in inputs.reasons):
            self._kept = kept


def _inputs(loaded: Sequence[tuple[Source, torch.Tensor | str]]) -> Inputs[Source]:
    good = [made for _, made in loaded if isinstance(made, torch.Tensor)]
    return Inputs(
        images=torch.stack(good) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        sources=tuple(source for source, _ in loaded),
        reasons=tuple(made if isinstance(made, str) else "" for _, made in loaded),
    )
