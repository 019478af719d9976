"""Batch normalisation over the photos of several processes, here of threads, is that of one process with all photos."""

import threading

import pytest
import torch
from torch import nn

from fieldguide.model.synced_batch_norm import SyncedBatchNorm

SIZES = (3, 0, 4)  # photos of each process


class Meeting:
    """`every` of so many threads."""

    def __init__(self, count):
        self.barrier, self.given = threading.Barrier(count, timeout=30), [None] * count

    def every_of(self, rank):
        def every(tensor):
            self.given[rank] = tensor
            self.barrier.wait()
            found = torch.stack(self.given)
            self.barrier.wait()
            return found

        return every


def layers(kind):
    torch.manual_seed(0)
    made = []
    for _ in range(1 + len(SIZES)):
        layer = kind(5, momentum=0.3, dtype=torch.float32)
        with torch.no_grad():
            layer.weight.copy_(torch.arange(1.0, 6.0))
            layer.bias.copy_(torch.arange(5.0))
        made.append(layer)
    return made


def by_parts(parts, features, weights):
    """{rank: (output, gradient of the features, layer)} of the sum of output * weights, a part in each thread."""
    meeting, found = Meeting(len(SIZES)), {}

    def work(rank, some, their):
        layer = SyncedBatchNorm(parts[rank], nn.Identity(), meeting.every_of(rank))
        own = some.clone().requires_grad_()
        out = layer(own)
        (out * their).sum().backward()
        found[rank] = out.detach(), own.grad, layer

    pieces = zip(features.split(SIZES), weights.split(SIZES), strict=True)
    threads = [threading.Thread(target=work, args=(rank, *piece)) for rank, piece in enumerate(pieces)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize(
    ("kind", "shape", "layout"),
    [
        (nn.BatchNorm2d, (7, 5, 3, 4), torch.contiguous_format),
        (nn.BatchNorm2d, (7, 5, 3, 4), torch.channels_last),
        (nn.BatchNorm1d, (7, 5), torch.contiguous_format),
    ],
)
def test_parts_of_a_batch_are_normalised_as_the_whole(kind, shape, layout):
    whole, *parts = layers(kind)
    features = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    features, weights = (each.contiguous(memory_format=layout) for each in (features, weights))
    one = features.clone().requires_grad_()
    right = whole(one)
    (right * weights).sum().backward()
    found = by_parts(parts, features, weights)
    close = {"rtol": 1e-5, "atol": 1e-5}
    assert torch.allclose(torch.cat([found[rank][0] for rank in range(3)]), right, **close)
    assert torch.allclose(torch.cat([found[rank][1] for rank in range(3)]), one.grad, **close)
    for name in ("weight", "bias"):
        summed = sum(getattr(found[rank][2], name).grad for rank in range(3))
        assert torch.allclose(summed, getattr(whole, name).grad, rtol=1e-4, atol=1e-4)
    for rank in range(3):
        for name, value in whole.state_dict().items():
            assert torch.allclose(found[rank][2].state_dict()[name], value, **close), name


def test_so_are_parts_in_bf16():
    whole, *parts = layers(nn.BatchNorm2d)
    shape, layout = (7, 5, 3, 4), torch.channels_last
    features = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    features, weights = (each.bfloat16().contiguous(memory_format=layout) for each in (features, weights))
    one = features.float().requires_grad_()
    right = whole(one)
    (right * weights).sum().backward()
    found = by_parts(parts, features, weights)
    outputs, gradients = (torch.cat([found[rank][part] for rank in range(3)]) for part in (0, 1))
    assert outputs.dtype == gradients.dtype == torch.bfloat16
    assert torch.allclose(outputs.float(), right, rtol=2**-8, atol=2**-6)  # as bf16 rounds a value and its two parts
    assert torch.allclose(gradients.float(), one.grad, rtol=2**-8, atol=2**-6 * float(one.grad.abs().max()))
    for name in ("weight", "bias"):  # what is summed over the photos stays in float32
        summed = sum(getattr(found[rank][2], name).grad for rank in range(3))
        assert torch.allclose(summed, getattr(whole, name).grad, rtol=1e-4, atol=1e-3)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(found[0][2], name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_in_evaluation_nobody_is_asked():
    whole, part, *_ = layers(nn.BatchNorm2d)
    features = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    layer = SyncedBatchNorm(part, nn.ReLU(), lambda _: pytest.fail("asked")).eval()
    assert torch.equal(layer(features), whole.eval()(features).relu())
