"""Messages through pipes, here between threads: they arrive by rank, and a process that is gone is noticed."""

import os
import threading

import pytest

from fieldguide.world.pipes import joined
from tests.world.test_exchange import Team


def run(size, work):
    """work(rank, its pipes) in a thread each; what they returned or raised."""
    team, found = Team(size), [None] * size

    def one(rank):
        exchange = team.exchange_of(rank)
        pipes = joined(rank, size, exchange._agree, exchange._tell, exchange._hear)
        try:
            found[rank] = work(rank, pipes)
        except (OSError, EOFError) as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_all_get_what_each_gives(size):
    def work(rank, pipes):
        return [pipes.all_gather(rank, bytes([rank]) * length) for length in (0, 1, 300_000)]  # more than a pipe holds

    expected = [[(rank, bytes([rank]) * length) for rank in range(size)] for length in (0, 1, 300_000)]
    assert run(size, work) == [expected] * size


@pytest.mark.parametrize("gone", [0, 1])
def test_a_process_that_is_gone_is_noticed_by_the_others(gone):
    def work(rank, pipes):
        pipes.all_gather(0)
        if rank == gone:
            for end in (*pipes._readers, *pipes._writers):
                end.close()
            return None
        return pipes.all_gather(0)

    found = run(2, work)
    assert found[gone] is None and isinstance(found[1 - gone], OSError | EOFError)


def test_where_one_process_cannot_open_them_nobody_has_any(monkeypatch):
    whole = os.open

    def refuse(path, *flags):
        if "/fd/" in str(path) and threading.current_thread().name == "late":
            raise OSError("refused")
        return whole(path, *flags)

    monkeypatch.setattr(os, "open", refuse)
    team, found = Team(3), {}

    def one(rank):
        exchange = team.exchange_of(rank)
        found[rank] = joined(rank, 3, exchange._agree, exchange._tell, exchange._hear)

    threads = [threading.Thread(target=one, args=(rank,), name="late" if rank == 2 else "other") for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: None, 1: None, 2: None}
