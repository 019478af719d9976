"""Photos loaded in their order, with bounded memory."""

import contextlib
import functools
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
    """Photos to look at, in the order given."""

    images: torch.Tensor  # (batch, 3, height, width) uint8, of the readable ones
    sources: tuple[Source, ...]  # every source of this stretch, readable or not
    reasons: tuple[str, ...]  # a source's, or empty where it is in `images`


def in_order(
    sources: Iterable[Source], load: Callable[[Source], torch.Tensor], batch_size: int
) -> Iterator[Inputs[Source]]:
    """Loads sources on all cores, in their order, with bounded memory however many there are.

    `load` makes one (3, height, width) uint8, and raises UnreadableError or MemoryError where it cannot.
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
            good = [made for _, made in piece if isinstance(made, torch.Tensor)]
            yield Inputs(
                images=torch.stack(good) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
                sources=tuple(source for source, _ in piece),
                reasons=tuple(made if isinstance(made, str) else "" for _, made in piece),
            )


class KeptInputs(Generic[Source]):
    """What `in_order` gives, loaded again each time it is gone through, or only once where it fits `most_bytes`."""

    def __init__(
        self,
        sources: Sequence[Source],
        load: Callable[[Source], torch.Tensor],
        batch_size: int,
        most_bytes: int = MOST_KEPT_BYTES,
    ) -> None:
        self._load_all = functools.partial(in_order, sources, load, batch_size)
        self._most_bytes = most_bytes
        self._kept: list[Inputs[Source]] | None = None

    def __iter__(self) -> Iterator[Inputs[Source]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Inputs[Source]] = []
        taken = 0
        for inputs in self._load_all():
            taken += inputs.images.nbytes
            if taken <= self._most_bytes:
                kept.append(inputs)
            else:
                kept.clear()
            yield inputs
        if taken <= self._most_bytes and not any(reason for inputs in kept for reason in inputs.reasons):
            self._kept = kept
