"""Batches: the same with any number of workers, every photo once, and no photo swapped in silence."""

import threading

import numpy as np
import pytest
import torch

from fieldguide.data.augment.reference import reference
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.order import cut
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.data.look.scan import scan
from fieldguide.data.read import prefetch
from fieldguide.data.read.decode import UnreadableError
from fieldguide.data.read.inputs import in_order
from fieldguide.errors import PhotosError
from fieldguide.world import cores
from tests.data.augment.test_reference import NOTHING, PREPROCESSING, STANDARD


def batches_of(root, *, seed=0, batch_size=4, workers=0):
    found = scan(root)
    return TrainingBatches(
        [LabelledPhoto(photo.path, photo.file, found.classes.index(photo.class_name)) for photo in found.photos],
        {"standard": reference(STANDARD, PREPROCESSING), "none": reference(NOTHING, PREPROCESSING)},
        seed=seed,
        batch_size=batch_size,
        reading=200,
        workers=workers,
    )


def taken(batches, augmentation="standard", epoch=1):
    return [(batch.images, batch.labels, batch.files) for batch in batches.epoch(augmentation, epoch)]


def same(first, second):
    return len(first) == len(second) and all(
        a[2] == b[2] and torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True)
    )


def test_the_batches_do_not_depend_on_the_number_of_workers(photos):
    root = photos({"cat": 7, "dog": 6})
    alone = batches_of(root)
    expected = [taken(alone, epoch=epoch) for epoch in (1, 2)]
    for workers in (1, 2):
        several = batches_of(root, workers=workers)
        assert all(same(taken(several, epoch=epoch), expected[epoch - 1]) for epoch in (1, 2)), workers


def test_an_epoch_does_not_depend_on_the_epochs_before_it(photos):
    root = photos({"cat": 5, "dog": 5})
    batches = batches_of(root)
    next(iter(batches.epoch("standard", 1)))  # given up after one batch
    assert same(taken(batches, epoch=3), taken(batches_of(root), epoch=3))


def test_a_photos_pixels_do_not_depend_on_its_batch(photos):
    root = photos({"cat": 7, "dog": 6})

    def by_file(batches):
        return {file: image for images, _, files in taken(batches) for file, image in zip(files, images, strict=True)}

    small, large = by_file(batches_of(root, batch_size=2)), by_file(batches_of(root, batch_size=13))
    assert len(small) == 13 and all(torch.equal(small[file], large[file]) for file in small)


def test_every_photo_comes_exactly_once_an_epoch_with_its_own_label(photos):
    batches = batches_of(photos({"cat": 7, "dog": 6}))
    for epoch in (1, 2):
        made = taken(batches, epoch=epoch)
        files = [file for *_, files in made for file in files]
        assert len(files) == 13 == len(set(files))
        labels = {file: int(label) for _, labels, names in made for file, label in zip(names, labels, strict=True)}
        assert all(label == file.startswith("dog") for file, label in labels.items())


def test_order_and_augmentation_are_fresh_each_epoch_and_for_each_seed(photos):
    root = photos({"cat": 7, "dog": 6})
    orders = [
        [file for *_, files in taken(batches_of(root, seed=s), epoch=e) for file in files]
        for s in (0, 1)
        for e in (1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_the_augmentation_is_the_one_that_was_asked_for(photos):
    batches = batches_of(photos({"cat": 3, "dog": 3}))
    plain = taken(batches, "none", 1)
    assert not same(plain, taken(batches, "standard", 1))
    images = plain[0][0]
    assert images.dtype == torch.uint8 and images.shape == (4, 3, 24, 24)


def test_making_batches_leaves_torchs_generator_as_it_was(photos):
    batches = batches_of(photos({"cat": 3, "dog": 3}))
    state = torch.get_rng_state()
    taken(batches)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("photos_in_all", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1]), (3, [3]), (5, [5]), (0, [])]
)
def test_a_last_batch_of_one_joins_the_one_before(photos_in_all, sizes):
    made = cut(range(photos_in_all), 4)
    assert [len(batch) for batch in made] == sizes
    assert [number for batch in made for number in batch] == list(range(photos_in_all))


def test_the_steps_of_an_epoch_are_counted_as_they_come(photos):
    batches = batches_of(photos({"cat": 5, "dog": 4}))
    assert batches.steps_per_epoch == len(taken(batches)) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_breaks_while_training_ends_it_and_is_named(photos, workers):
    root = photos({"cat": 3, "dog": 3})
    batches = batches_of(root, workers=workers)
    (root / "dog/001.png").write_bytes((root / "dog/001.png").read_bytes()[:200])
    (root / "cat/000.png").unlink()
    with pytest.raises(PhotosError) as caught:
        for epoch in (1, 2):
            taken(batches, epoch=epoch)
    text = str(caught.value)
    assert "dog/001.png is cut off" in text or "cat/000.png does not exist" in text
    assert "it was readable when the training began" in text


def image_of(number):
    return torch.full((3, 2, 2), number, dtype=torch.uint8)


def test_sources_come_in_their_order_however_long_each_takes(monkeypatch):
    later = threading.Event()
    monkeypatch.setattr(prefetch, "cores", lambda: 2)

    def load(number):
        if number == 0:
            assert later.wait(60), "the next one is not loaded meanwhile"
        later.set()
        return image_of(number)

    made = list(in_order(range(10), load, 4))
    assert [inputs.sources for inputs in made] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert np.concatenate([inputs.images[:, 0, 0, 0].numpy() for inputs in made]).tolist() == list(range(10))


def test_an_unreadable_source_keeps_its_place_and_its_reason():
    def load(number):
        if number % 2:
            raise UnreadableError(f"{number} is odd")
        return image_of(number)

    (inputs,) = in_order(range(4), load, 8)
    assert inputs.reasons == ("", "1 is odd", "", "3 is odd") and inputs.sources == (0, 1, 2, 3)
    assert inputs.images[:, 0, 0, 0].tolist() == [0, 2]
    (none,) = in_order([1, 3], load, 8)
    assert len(none.images) == 0 and none.reasons == ("1 is odd", "3 is odd")
    assert list(in_order([], load, 8)) == []


def test_only_a_bounded_number_of_sources_is_loaded_ahead():
    taken = []

    def sources():
        for number in range(10_000):
            taken.append(number)
            yield number

    pieces = in_order(sources(), lambda number: image_of(number % 200), 5)
    next(pieces)
    assert 5 < len(taken) <= 5 + max(5, cores())
    next(pieces)
    pieces.close()
    assert 10 < len(taken) <= 10 + max(5, cores())


def test_a_mistake_of_the_program_is_not_taken_for_a_broken_photo():
    def load(number):
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        list(in_order(range(3), load, 2))
