import contextlib

import pytest
import torch
from torch import nn

from fieldguide.training.memory import OVERHEAD, SHARE, fitting, kept_bytes_per_image


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
