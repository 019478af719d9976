import contextlib

import pytest
import torch
from torch import nn

from fieldguide.training.memory import OVERHEAD, SHARE, Fit, Meter, fitting, kept_bytes_per_image, measured_fit


def test_what_a_convolution_and_a_relu_keep_is_counted_in_bytes():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3))
    kept = kept_bytes_per_image(model, 16, contextlib.nullcontext)
    image, features = 4 * 3 * 16 * 16, 4 * 8 * 16 * 16
    assert kept == image + features  # the convolution's input; the ReLU's output, which is the next one's input


def test_statistics_modes_and_random_numbers_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)).train()
    mean, state = model[1].running_mean.clone(), torch.get_rng_state()
    kept_bytes_per_image(model, 16, contextlib.nullcontext)
    assert torch.equal(model[1].running_mean, mean) and model.training and model[2].training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("fits", "size"), [(1_000, 64), (64, 64), (63, 32), (20, 16), (3, 2), (0, 2)],
)  # fmt: skip
def test_the_batch_is_halved_until_it_fits(fits, size):
    assert fitting(64, 1e6, int(fits * 1e6 * OVERHEAD / SHARE) + 1) == size


def test_an_odd_batch_is_cut_into_pieces_that_hold_it():
    assert fitting(65, 1e6, int(40e6 * OVERHEAD / SHARE)) == 33


def test_where_the_system_does_not_tell_the_batch_stays_whole():
    assert fitting(64, 1e9, None) == 64


class Device:
    """Memory of which a step takes some, and more for each photo; a step that does not fit is halved until it does."""

    def __init__(self, free, own, each):
        self.free, self.own, self.each, self.steps, self.most = free, own, each, [], 0
        self.meter = Meter(lambda: free, self.restart, lambda: self.most)

    def restart(self):
        self.most = 0

    def step(self, photos):
        self.steps.append(photos)
        while (takes := self.own + self.each * photos) > self.free:
            self.most = self.free
            photos //= 2
            if photos < 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        self.most = max(self.most, takes)
        return photos


def test_a_batch_that_fits_is_measured_and_not_split_where_the_estimate_would_split_it():
    device = Device(14_500_000_000, 1_000_000_000, 170_000_000)
    assert fitting(64, 170e6, device.free) == 32
    assert measured_fit(64, device.step, device.meter) == Fit(64, 11_880_000_000)


@pytest.mark.parametrize(
    ("free", "photos", "steps"),
    [
        (9_999, 64, [64]), (6_843, 64, [64]),  # 6,500 is taken
        (6_499, 32, [64, 32]),  # memory runs out in the first, whose peak says nothing of the second
        (6_500, 32, [64, 32]), (6_842, 32, [64, 32]),  # it just fits, which leaves too little for fragments
        (310, 2, [64, 2]), (299, 2, [64]),  # not even two fit: the training says so
    ],
)  # fmt: skip
def test_the_most_that_fits_with_some_room_is_taken(free, photos, steps):
    device = Device(free, 100, 100)
    found = measured_fit(64, device.step, device.meter)
    assert found == Fit(photos, 100 + 100 * photos if free >= 300 else free) and device.steps == steps


def test_another_error_than_a_lack_of_memory_is_not_hidden():
    def step(photos):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        measured_fit(8, step, Device(1, 1, 1).meter)
