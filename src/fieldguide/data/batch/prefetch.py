"""Work done by threads ahead of its turn, in order and with bounded memory."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Made = TypeVar("Made")


def prefetched(tasks: Iterable[Task], work: Callable[[Task], Made], threads: int, most_ahead: int) -> Iterator[Made]:
    """Does tasks on threads and yields what they made in the order of the tasks.

    Args:
        tasks: taken one by one, only so far as they are worked on.
        work: is called in a thread; what it raises is raised here.
        threads: how many.
        most_ahead: so many tasks are begun before their turn; the bound on memory.
    """
    waiting: collections.deque[Future[Made]] = collections.deque()
    remaining = iter(tasks)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            while True:
                while len(waiting) < most_ahead:
                    try:
                        task = next(remaining)
                    except StopIteration:
                        break
                    waiting.append(pool.submit(work, task))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
