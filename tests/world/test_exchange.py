"""Tensors through shared memory, here between threads: they arrive whole, however each process lays them out."""

import errno
import os
import queue
import threading

import pytest
import torch

from fieldguide.world import shared_memory
from fieldguide.world.exchange import Exchange
from fieldguide.world.tensors import flat, put_back


class Team:
    """`agree`, `tell` and `hear` of so many threads."""

    def __init__(self, size):
        self.size, self.barrier = size, threading.Barrier(size, timeout=30)
        self.given, self.orders = [0] * size, [queue.Queue() for _ in range(size)]

    def exchange_of(self, rank, **how):
        def agree(code):
            self.given[rank] = code
            self.barrier.wait()
            found = list(self.given)
            self.barrier.wait()
            return found

        def tell(order):
            for other in self.orders:
                other.put(order)

        def hear():
            return self.orders[rank].get(timeout=30)

        return Exchange(rank, self.size, agree, tell, hear, is_possible=how.get("is_possible", True))

    def run(self, work):
        """work(rank, its exchange) in a thread each."""
        found, exchanges = [None] * self.size, [self.exchange_of(rank) for rank in range(self.size)]

        def one(rank):
            found[rank] = work(rank, exchanges[rank])

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def tensors(rank, channels_last):
    """Odd sizes, a value, a convolution's weights in one of two layouts, and some that are not dense."""
    draw = torch.Generator().manual_seed(rank)
    weights = torch.randn(5, 3, 3, 2, generator=draw)
    weights = weights.contiguous(memory_format=torch.channels_last) if channels_last else weights
    return [torch.randn(7, generator=draw), torch.randn((), generator=draw), weights, torch.randn(4, 6)[:, ::2].t()]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("layouts", [(False, False, False), (True, True, True), (False, True, False)])
def test_all_get_the_leaders_tensors_and_the_leader_the_sums(size, layouts):
    def work(rank, exchange):
        for times in range(3):  # the memory is used again, with other sizes
            own = tensors(rank, layouts[rank])[: 2 + times]
            mine = [each.clone() for each in own]
            assert exchange.add_up(mine)
            shared = [each.clone() for each in own]
            assert exchange.share(shared)
        return own, mine, shared

    found = Team(size).run(work)
    for place, total in enumerate(found[0][1]):
        expected = found[0][0][place]
        for rank in range(1, size):
            expected = expected + found[rank][0][place]
        assert torch.equal(total, expected)
    for rank in range(size):
        assert all(map(torch.equal, found[rank][2], found[0][0]))
        assert rank == 0 or all(map(torch.equal, found[rank][1], found[rank][0]))


@pytest.mark.parametrize("layouts", [(True, True, True), (False, True, False)])
def test_others_see_what_the_leader_writes_while_they_hold_its_parameters(layouts):
    team = Team(3)

    def work(rank, exchange):
        own = [torch.nn.Parameter(each) for each in tensors(rank, layouts[rank])]
        before, meet = [each.detach().clone() for each in own], team.barrier.wait
        exchange.hold(own)
        meet()  # in a training, the leader's next order comes after it
        with exchange.holding():
            seen = [[each.detach().clone() for each in own]]
            meet()
            for each in own if rank == 0 else ():
                each.data.add_(1)
            meet()
            seen.append([each.detach().clone() for each in own])
        return exchange.holds, before, seen, [each.detach().clone() for each in own]

    found = team.run(work)
    leaders = found[0][1]
    for holds, before, (first, second), after in found:
        assert holds == (len(set(layouts)) == 1)  # tensors that lie in different ways are sent, as before
        if holds:
            assert all(map(torch.equal, first, leaders))
            assert all(map(torch.equal, second, [each + 1 for each in leaders]))
        assert all(map(torch.equal, after, [each + 1 for each in leaders] if before is leaders else before))


@pytest.mark.parametrize("fault", ["made", "opened"])
def test_where_one_process_cannot_share_memory_all_know_it(monkeypatch, fault):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "made":
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    else:
        whole = shared_memory.SharedMemory.__init__

        def opened(self, place, size):
            if threading.current_thread().name == "late":
                refuse()
            whole(self, place, size)

        monkeypatch.setattr(shared_memory.SharedMemory, "__init__", opened)

    def work(rank, exchange):
        threading.current_thread().name = "late" if rank == 2 else "other"
        own = [torch.full((3,), float(rank))]
        return exchange.share(own), exchange.add_up(own), own[0].tolist()

    assert Team(3).run(work) == [(False, False, [float(rank)] * 3) for rank in range(3)]


def test_several_machines_share_no_memory():
    exchange = Team(2).exchange_of(0, is_possible=False)
    exchange.hold([torch.zeros(3)])
    assert not exchange.holds
    assert not exchange.share([torch.zeros(3)]) and not exchange.add_up([torch.zeros(3)])


def test_tensors_in_one_piece_are_put_back_as_they_were():
    own, others = tensors(0, True), tensors(1, False)
    put_back(flat(own), others)
    assert all(map(torch.equal, own, others))
