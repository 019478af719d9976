"""Photos as people have them: each kind gives the pixels of the others, and what is none says why."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fieldguide.data.read.decode import UnreadableError
from fieldguide.deploy.photos import as_image, demand_several
from fieldguide.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(2, 0, 1)


def image_of(photo):
    return np.asarray(as_image(photo, 200, None))


def content():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def test_every_kind_of_photo_gives_the_same_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(content())
    with (tmp_path / "a.png").open("rb") as file:
        file.read(7)  # it is read from its beginning, as often as it is asked for
        kinds = [
            tmp_path / "a.png", str(tmp_path / "a.png"), content(), bytearray(content()), memoryview(content()),
            io.BytesIO(content()), file, file, Image.fromarray(PIXELS), PIXELS, CHANNELS_FIRST,
            CHANNELS_FIRST.float() / 255, (CHANNELS_FIRST.double() / 255).requires_grad_(),
        ]  # fmt: skip
        for kind in kinds:
            np.testing.assert_array_equal(image_of(kind), PIXELS)
    np.testing.assert_array_equal(image_of(PIXELS[..., 0]), PIXELS[..., :1].repeat(3, axis=2))
    opaque = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(image_of(opaque), PIXELS)
    np.testing.assert_array_equal(image_of(opaque * np.uint8([1, 1, 1, 0])), 255)  # what is transparent is white


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (np.zeros((3, 30, 40), np.uint8), r"shape \(3, 30, 40\) and type uint8; arrays must be \(height, width, 3\)"),
        (PIXELS.astype(float), r"type float64; arrays must be .* uint8"),
        (np.zeros((3, 30, 3), np.uint8), r"could be channels first or last; pass a PIL image"),
        (torch.zeros(30, 40, 3, dtype=torch.uint8), r"shape \(30, 40, 3\) .* tensors must be \(3, height, width\)"),
        (torch.zeros(1, 30, 40), r"shape \(1, 30, 40\) and type torch.float32; tensors must be"),
        (torch.zeros(3, 30, 40, dtype=torch.int64), r"type torch.int64; tensors must be"),
        (torch.zeros(3, 30, 3), r"could be channels first or last"),
        (torch.full((3, 30, 40), 2.5), r"values from 2.5 to 2.5; tensors must be .* not normalised"),
        (torch.full((3, 30, 40), float("nan")), r"values from nan to nan"),
        (torch.zeros(3, 0, 40), "has no pixels"),
        (b"", "is empty"),
        (b"no photo", "is not an image"),
        (io.StringIO("text"), 'opened as text; open it with mode "rb"'),
        (7, "is a int; expected a path, bytes, an open file, a PIL image, an array or a tensor"),
    ],
)
def test_what_is_no_photo_says_what_it_should_be(photo, reason):
    with pytest.raises(UnreadableError, match=reason):
        image_of(photo)


def test_a_closed_file_is_unreadable():
    file = io.BytesIO(content())
    file.close()
    with pytest.raises(UnreadableError, match=r"cannot be read .*closed"):
        image_of(file)


@pytest.mark.parametrize("photo", ["a.jpg", content(), io.BytesIO(), PIXELS, CHANNELS_FIRST, Image.fromarray(PIXELS)])
def test_a_single_photo_is_no_list_of_photos_and_a_batch_is_one(photo):
    with pytest.raises(UsageError, match="features takes a list of photos; put a single one into"):
        demand_several(photo, "features")
    demand_several([photo], "features")
    demand_several(PIXELS[None], "features")
    demand_several(CHANNELS_FIRST[None], "features")
