"""Tensors handed over through memory that the processes of one machine share: less work than through a connection."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from fieldguide.world.shared_memory import SharedMemory
from fieldguide.world.tensors import bytes_of, layout, views

HAS_IT, HAS_NONE = 0, 1


class Exchange:
    """Tensors of one type, of the leader to all or of all to the leader, who is process 0.

    All processes call the same method with tensors of the same shapes. It returns whether it did its work: it cannot
    on GPUs, on several machines or outside of Linux.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        agree: Callable[[int], list[int]],
        tell: Callable[[object], None],
        hear: Callable[[], object],
        *,
        is_possible: bool,
    ) -> None:
        """Process `rank` of `size`; the functions are the team's; `is_possible`: one machine has all processes."""
        self._rank, self._others = rank, size - 1
        self._agree, self._tell, self._hear = agree, tell, hear
        self._is_possible = is_possible
        self._memory: SharedMemory | None = None
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []  # parameters, and where the leader's are

    def hold(self, parameters: Sequence[torch.Tensor]) -> None:
        """Moves the leader's parameters into memory that all have, where they can; until this is called again."""
        places = self._places_of_their_own(parameters)
        self._held = [] if places is None else list(zip(parameters, places, strict=True))
        for parameter, place in () if self._rank else self._held:
            place.copy_(parameter.detach())
            parameter.data = place

    @property
    def holds(self) -> bool:
        """Whether others see in `holding` what the leader writes into its parameters, without being told."""
        assert self._rank or all(parameter.data_ptr() == place.data_ptr() for parameter, place in self._held)
        return bool(self._held)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Inside, the parameters of others are the leader's, and nobody may write to them; then they are their own."""
        own = [parameter.data for parameter, _ in self._held]
        for parameter, place in self._held:
            parameter.data = place
        try:
            yield
        finally:
            for (parameter, _), data in zip(self._held, own, strict=True):
                parameter.data = data

    def share(self, tensors: list[torch.Tensor]) -> bool:
        """Overwrites the tensors with those of the leader."""
        if (places := self._places(tensors)) is None:
            return False
        if self._rank == 0:
            torch._foreach_copy_(places[0], tensors)
        self._agree(HAS_IT)
        if self._rank:
            torch._foreach_copy_(tensors, places[0])
        return True

    def add_up(self, tensors: list[torch.Tensor]) -> bool:
        """Adds the tensors of the others to those of the leader, in the order of their numbers."""
        if (places := self._places(tensors)) is None:
            return False
        if self._rank:
            torch._foreach_copy_(places[self._rank - 1], tensors)
        self._agree(HAS_IT)
        for place in places if self._rank == 0 else ():
            torch._foreach_add_(tensors, place)
        return True

    def _places(self, tensors: list[torch.Tensor]) -> list[list[torch.Tensor]] | None:
        """Shared memory as such tensors, once for each process but the leader; nobody needs what it held before."""
        if not self._is_possible or tensors[0].device.type != "cpu":
            return None
        of_one = bytes_of(tensors)
        in_all = of_one * self._others
        if self._memory is None or len(self._memory.bytes) < in_all:
            self._memory = self._joined(in_all)
            self._is_possible = self._memory is not None
        if self._memory is None:
            return None
        lie_alike = len(set(self._agree(layout(tensors)))) == 1
        starts = range(0, in_all, of_one)
        return [views(self._memory.bytes[start:], tensors, as_they_lie=lie_alike) for start in starts]

    def _places_of_their_own(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
        if not self._is_possible or tensors[0].device.type != "cpu":
            return None
        lie_alike = len(set(self._agree(layout(tensors)))) == 1
        memory = self._joined(bytes_of(tensors)) if lie_alike else None
        return None if memory is None else views(memory.bytes, tensors, as_they_lie=True)

    def _joined(self, size: int) -> SharedMemory | None:
        """Memory that all processes have; None if one of them cannot."""
        memory: SharedMemory | None = None
        place: object = None
        with contextlib.suppress(OSError):
            if self._rank == 0:
                memory, place = SharedMemory.made(size)
        if self._rank == 0:
            self._tell(place)
        else:
            place = self._hear()
        with contextlib.suppress(OSError):
            if self._rank and isinstance(place, str):
                memory = SharedMemory(place, size)
        codes = self._agree(HAS_NONE if memory is None else HAS_IT)
        if memory is not None:
            memory.close()
        return None if any(codes) else memory
