"""Batches made on the device: the same pixels as OpenCV's, here on the CPU as a device."""

import dataclasses

import numpy as np
import pytest
import torch

from fieldguide.data.augment.draw import Drawn, draw
from fieldguide.data.augment.on_device import augment_batch, numbers_of, samples_for
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.device_batches import DeviceBatches
from fieldguide.data.batch.feed import Feed
from fieldguide.data.batch.waiting import Waiting
from fieldguide.data.read.cache import Cache
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.storage import file_digest
from tests.data.augment.test_reference import NOTHING, STANDARD, STRONG, changed

pytest.importorskip("cv2")
from tests.data.augment.test_fused import LARGE, SIDE, difference, made, scene

PLENTY = 10**9


def on_device(drawn, images, samples):
    arrays = [np.asarray(image) for image in images]
    flat = torch.from_numpy(np.concatenate([array.reshape(-1, 3) for array in arrays]))
    starts = np.cumsum([0, *(array.shape[0] * array.shape[1] for array in arrays)])[:-1]
    places = torch.tensor([[start, array.shape[1]] for start, array in zip(starts, arrays, strict=True)])
    rows = [numbers_of(one, SIDE, a.shape[1], a.shape[0]) for one, a in zip(drawn, arrays, strict=True)]
    images = augment_batch(flat, places, torch.from_numpy(np.stack(rows)), SIDE, samples)
    assert images.shape == (len(arrays), 3, SIDE, SIDE) and images.dtype == torch.uint8
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("size", "samples"), [((80, 64), 1), ((150, 110), 2), ((40, 60), 1)])
def test_the_devices_pixels_are_opencvs_for_the_same_parameters(size, samples):
    """1 level in the mean of a photo and 6 at 98 of 100 values; the rest lies at the edge of the black."""
    policy = changed(STRONG, crop_ratio=(0.9, 1.1))
    images = [scene(seed, size) for seed in range(20)]
    drawn = [draw(policy, LARGE, *size, seed) for seed in range(20)]
    theirs = on_device(drawn, images, samples)
    for seed in range(20):
        off = difference(theirs[seed], made(drawn[seed], images[seed]))
        assert off.mean() < 1 and np.quantile(off, 0.98) < 6, (seed, drawn[seed])


def test_nothing_but_the_crop_is_exact_at_the_photos_own_size():
    image = scene(1, (90, 80), 0)
    drawn = Drawn((10, 7, SIDE, SIDE), False, False, 0.0, (), (0, 0))
    assert (on_device([drawn], [image], 1)[0] == np.asarray(image)[7 : 7 + SIDE, 10 : 10 + SIDE]).all()
    flipped = dataclasses.replace(drawn, horizontal_flip=True, shift=(3, -2))
    expected = np.zeros((SIDE, SIDE, 3), np.uint8)
    expected[:-2, 3:] = np.asarray(image)[9 : 7 + SIDE, 10 : 10 + SIDE][:, ::-1][:, :-3]
    assert (on_device([flipped], [image], 1)[0] == expected).all()


def test_the_pixels_do_not_depend_on_the_batch():
    images = [scene(0, (80, 64)), scene(1, (40, 90)), scene(2, (64, 64))]
    drawn = [draw(STRONG, LARGE, *image.size, seed) for seed, image in enumerate(images)]
    together = on_device(drawn, images, 2)
    for place in range(3):
        alone = on_device(drawn[place : place + 1], images[place : place + 1], 2)[0]
        assert difference(alone, together[place]).max() <= 1  # sums in another order


def batches_of(root, cache, *, most=PLENTY, batch_size=4, side=100):
    photos = []
    root.mkdir(exist_ok=True)
    for number in range(10):
        path = root / f"{number}.png"
        if not path.exists():
            scene(number, (60 + number, 50)).save(path)
        photos.append(LabelledPhoto(path, path.name, number % 2, file_digest(path)))
    return DeviceBatches(
        photos,
        {"standard": STANDARD, "none": NOTHING},
        cache.pixels_of(photos, side, 200),
        Preprocessing(24, 27, "bilinear", (0.5,) * 3, (0.5,) * 3),
        device=torch.device("cpu"),
        seed=3,
        batch_size=batch_size,
        most_resident_bytes=most,
    )


def test_resident_and_streamed_batches_are_the_same(tmp_path):
    cache = Cache(tmp_path / "cache", PLENTY)
    resident, streamed = batches_of(tmp_path / "a", cache), batches_of(tmp_path / "a", cache, most=1_000)
    uncached = batches_of(tmp_path / "a", Cache(tmp_path / "other", 10))
    assert resident.is_resident and not streamed.is_resident and not uncached.is_resident
    state = torch.get_rng_state()
    for first, *others in zip(
        *(batches.epoch("standard", 2) for batches in (resident, streamed, uncached)), strict=True
    ):
        for other in others:
            assert torch.equal(first.images, other.images) and torch.equal(first.labels, other.labels)
            assert first.files == other.files
    assert torch.equal(torch.get_rng_state(), state)


def test_photos_lie_in_a_gpus_memory_where_a_step_leaves_room_for_them(tmp_path):
    cache, taken = Cache(tmp_path / "cache", PLENTY), 10 * 3 * 60 * 50  # at most, of the photos
    free = 4 * taken

    def feed():
        batches = batches_of(tmp_path / "a", cache, most=0)
        made = Feed(batches, Waiting(""), 24, lambda side: batches_of(tmp_path / "a", cache, most=0), room=lambda: free)
        assert made.is_on_device and not batches.is_resident
        return made

    for reserved, expected in ((0, True), (2 * taken, True), (3 * taken, False), (9 * taken, False)):
        settled = feed()
        settled.settle(reserved)
        assert settled.batches.is_resident is settled.of_size(48).is_resident is expected
    assert not feed().of_size(48).is_resident  # nobody knows yet what a step takes


def test_an_epoch_can_begin_at_a_later_step(tmp_path):
    batches = batches_of(tmp_path / "a", Cache(tmp_path / "cache", PLENTY))
    whole, rest = list(batches.epoch("standard", 1)), list(batches.epoch("standard", 1, first_step=2))
    assert batches.steps_per_epoch == len(whole) == 3 and len(rest) == 1
    assert rest[0].files == whole[2].files and torch.equal(rest[0].images, whole[2].images)


def test_photos_much_larger_than_the_images_get_more_samples():
    assert [samples_for(side, 224) for side in (0, 224, 256, 448, 900, 5_000)] == [2, 1, 1, 2, 3, 3]
