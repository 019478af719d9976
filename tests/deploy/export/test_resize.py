"""The resize inside an export against Pillow's, as the bundle's preprocessing does it."""

import numpy as np
import pytest
import torch
from PIL import Image

from fieldguide.data.read.fit import fitted
from fieldguide.data.read.preprocess import Preprocessing, center, pixels
from fieldguide.data.read.reading import Reading
from fieldguide.deploy.export.resize import Resize

SIZES = [  # of a photo, its shorter side after the resize, and the crop
    ((640, 480), 256, 224),
    ((333, 481), 255, 224),
    ((50, 31), 64, 64),  # larger than it was
    ((900, 60), 73, 64),
    ((1, 9), 40, 32),
    ((224, 224), 224, 224),
    ((225, 224), 224, 223),  # halves that Python rounds to even numbers
]


def both(size, resize_px, crop_px, fit, interpolation):
    """(3, crop, crop) of Pillow and of the graph, as whole numbers."""
    photo = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    reading = Reading(fit=fit)
    own = Preprocessing(crop_px, resize_px, interpolation, (0.5,) * 3, (0.25,) * 3, reading=reading)
    expected = pixels(center(fitted(Image.fromarray(photo), fit), own)).numpy().astype(int)
    found = Resize(own)(torch.from_numpy(photo)[None])[0].numpy().astype(int)
    return expected, found


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize_px", "crop_px"), SIZES)
def test_a_photo_of_any_size_gives_pillows_pixels(size, resize_px, crop_px, interpolation, fit):
    expected, found = both(size, resize_px, crop_px, fit, interpolation)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02  # where a value lies between two whole numbers


def test_a_padded_photo_over_4096_px_is_resized_once_and_not_twice():
    expected, found = both((4200, 90), 64, 56, "pad", "bilinear")
    assert 0 < np.abs(found - expected).max() <= 1


def test_a_batch_is_its_photos_one_by_one():
    own = Preprocessing(16, 20, "bicubic", (0.5,) * 3, (0.25,) * 3)
    photos = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 31, 44, 3), dtype=np.uint8))
    alone = torch.cat([Resize(own)(photo[None]) for photo in photos])
    torch.testing.assert_close(Resize(own)(photos), alone, rtol=0, atol=0)
