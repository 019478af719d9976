"""Work done by threads ahead of its turn, in order and with bounded memory."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from fieldguide.world import cores

Task = TypeVar("Task")
Made = TypeVar("Made")
AHEAD_A_THREAD = 4


def prefetched(
    tasks: Iterable[Task], work: Callable[[Task], Made], threads: int | None = None, most_ahead: int | None = None
) -> Generator[Made, None, None]:
    """Does tasks on threads and yields what they made in the order of the tasks; what `work` raises is raised here.

    Tasks are taken one by one; at most `most_ahead` start before their turn, which bounds memory. By default one thread
    per core, and a few tasks per thread.
    """
    threads = threads or cores()
    most_ahead = most_ahead or AHEAD_A_THREAD * threads
    waiting: collections.deque[Future[Made]] = collections.deque()
    remaining = iter(tasks)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            while True:
                for task in islice(remaining, most_ahead - len(waiting)):
                    waiting.append(pool.submit(work, task))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
