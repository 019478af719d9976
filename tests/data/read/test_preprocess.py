"""The photo's way to the network's input, held against torchvision's own."""

import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from fieldguide.data.read.decode import decode
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels, resized_side
from fieldguide.errors import UsageError
from tests.data.photo_folders import make_photo
from tests.data.read.test_decode import encoded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(40, 30), (30, 40), (33, 33), (256, 256), (256, 300), (301, 257), (500, 333), (1, 90), (90, 1), (7, 8)]


def preprocessing(size=24, resize=27, interpolation="bilinear"):
    return Preprocessing(size, resize, interpolation, MEAN, STD)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("crop", "resize"), [(24, 27), (23, 28), (24, 24), (224, 256)])
def test_the_centre_is_torchvisions_resize_and_centre_crop_to_the_last_bit(size, interpolation, crop, resize):
    photo = make_photo("x", 0, size)
    mode = InterpolationMode(interpolation)
    for library in (v2, transforms):
        steps = [library.Resize(resize, interpolation=mode, antialias=True), library.CenterCrop(crop)]
        reference = library.Compose(steps)(photo)
        assert np.array_equal(center(photo, preprocessing(crop, resize, interpolation)), reference)


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (2, 60_000)])
def test_a_sliver_of_a_photo_takes_no_memory_to_speak_of(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = center(Image.new("RGB", size, (9, 99, 199)), preprocessing(224, 256))
    assert made.size == (224, 224) and made.getpixel((100, 100)) == (9, 99, 199)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_normalising_is_torchvisions():
    photo = make_photo("x", 0, (31, 17))
    ours = normalize(pixels(photo).unsqueeze(0), preprocessing())
    report = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(photo)
    assert ours.dtype == torch.float32 and torch.equal(ours[0], report)
    modern = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(photo)
    torch.testing.assert_close(ours[0], modern)


def test_normalising_leaves_its_input_as_it_was():
    images = torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)
    normalize(images, preprocessing())
    assert images.unique().tolist() == [7]


def test_pixels_are_channels_first_and_the_photos_own():
    photo = make_photo("x", 0, (5, 3))
    made = pixels(photo)
    assert made.shape == (3, 3, 5) and made.dtype == torch.uint8 and made.is_contiguous()
    assert made[:, 2, 4].tolist() == list(photo.getpixel((4, 2)))
    made.zero_()
    assert photo.getpixel((4, 2)) != (0, 0, 0)


def test_gray_and_colour_files_of_the_same_photo_give_the_same_input():
    gray = make_photo("x", 0).convert("L")
    files = [encoded(gray), encoded(gray.convert("RGB")), encoded(gray.convert("RGBA")), encoded(gray.convert("LA"))]
    made = [pixels(center(decode(file), preprocessing())) for file in files]
    assert all(torch.equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize(
    ("size", "share", "side"), [(224, 0.875, 256), (128, 0.875, 146), (224, 1.0, 224), (288, 0.95, 303)]
)
def test_the_shorter_side_is_the_size_over_the_share_rounded(size, share, side):
    assert resized_side(size, share) == side


def test_preprocessing_survives_plain_data():
    made = preprocessing()
    assert Preprocessing.from_dict(made.to_dict()) == made
    mirrored = replace(made, flips="horizontal")
    assert Preprocessing.from_dict(mirrored.to_dict()) == mirrored != made


def test_preprocessing_of_an_earlier_version_has_no_flips():
    data = preprocessing().to_dict()
    del data["flips"]
    assert Preprocessing.from_dict(data).flips == "none"


@pytest.mark.parametrize(
    "change",
    [
        {"image_size_px": 0},
        {"image_size_px": "224"},
        {"image_size_px": 2.5},
        {"image_size_px": True},
        {"image_size_px": float("inf")},
        {"image_size_px": 28},
        {"resize_px": 10**6},
        {"resize_px": None},
        {"interpolation": "lanczos"},
        {"mean": [0.1, 0.2]},
        {"mean": [0.1, float("nan"), 0.2]},
        {"std": [0.1, 0.0, 0.2]},
        {"std": [0.1, -1, 0.2]},
        {"std": 5},
        {"flips": "vertical"},
        {"flips": True},
        {"flips": ["horizontal"]},
    ],
)
def test_preprocessing_without_sense_is_refused(change):
    with pytest.raises(UsageError, match=r"^preprocessing: (?!.*preprocessing: )"):
        Preprocessing.from_dict(preprocessing().to_dict() | change)


def test_a_missing_field_of_the_preprocessing_is_named():
    data = preprocessing().to_dict()
    del data["mean"]
    with pytest.raises(UsageError, match="preprocessing: 'mean' is missing"):
        Preprocessing.from_dict(data)
