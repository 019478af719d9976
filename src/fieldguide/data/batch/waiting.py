"""How long a training waits for its photos."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
MUCH = 0.05


class Waiting:
    """Counts the seconds in which a loop waits for its next batch, and those of the loop.

    `advice` is what to do where it waits much, as the end of a sentence.
    """

    def __init__(self, advice: str = "") -> None:
        self.advice = advice
        self.seconds_waited = 0.0
        self.seconds = 0.0

    def over(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, counted."""
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                waited = time.perf_counter() - asked
                self.seconds_waited += waited
                self.seconds += waited
            given = time.perf_counter()
            try:
                yield batch
            finally:
                self.seconds += time.perf_counter() - given

    def told(self) -> list[float]:
        """Both counts, so that another process can go on with them."""
        return [self.seconds_waited, self.seconds]

    def go_on(self, told: Sequence[float]) -> None:
        """Takes in what `told` gave in a process that ended before this one."""
        waited, seconds = map(float, told)
        self.seconds_waited += waited
        self.seconds += seconds

    @property
    def share(self) -> float:
        """Of the time of all epochs without their validation, in [0, 1]."""
        return self.seconds_waited / self.seconds if self.seconds else 0.0

    def sentence(self) -> str:
        """`waited for data 1.2 %`, and what to do where it is much."""
        text = f"waited for data {self.share:.1%}".replace("%", " %")
        return f"{text}: {self.advice}" if self.share > MUCH and self.advice else text
