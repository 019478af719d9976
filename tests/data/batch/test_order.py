"""The order of an epoch: each photo once, or each class equally often; both from (seed, epoch) alone."""

from collections import Counter

import numpy as np
import pytest
import torch

from fieldguide.data.augment import fused
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.device_batches import DeviceBatches
from fieldguide.data.batch.feed import make_feed
from fieldguide.data.batch.order import Turn, cut, epoch_order
from fieldguide.data.look.scan import scan
from fieldguide.data.read.cache import Cache
from fieldguide.storage import file_digest
from tests.data.augment.test_reference import NOTHING, PREPROCESSING, STANDARD

PLENTY = 10**9
UNEVEN = [0] * 22 + [1] * 7 + [2]  # 22 to 1


def turns(labels, *, batch_size=4, seed=0, epoch=1, order="balanced"):
    return [t for batch in epoch_order(labels, batch_size, seed, epoch, order=order) for t in batch]


def test_without_balance_the_order_is_numpys_permutation_and_each_photo_comes_once():
    expected = cut(np.random.default_rng([3, 5]).permutation(30).tolist(), 4)
    assert epoch_order(UNEVEN, 4, 3, 5) == [[Turn(place, 0) for place in batch] for batch in expected]


@pytest.mark.parametrize("labels", [UNEVEN, [0, 1], [0] * 5, [0, 0, 0, 1], [4] * 9 + [7] * 2, list(range(6)), []])
def test_a_balanced_epoch_is_as_long_and_no_class_is_a_turn_ahead_of_another_by_more_than_one(labels):
    for epoch in (1, 2, 3):
        counts = Counter(labels[turn.photo] for turn in turns(labels, epoch=epoch))
        assert counts.total() == len(labels) and set(counts) == set(labels)
        assert not counts or max(counts.values()) - min(counts.values()) <= 1


def test_the_photos_of_a_class_differ_by_one_turn_at_most():
    for epoch in (1, 2, 3):
        counts = Counter(turn.photo for turn in turns(UNEVEN, epoch=epoch))
        for label in (0, 1, 2):
            of_class = [counts[place] for place, own in enumerate(UNEVEN) if own == label]
            assert max(of_class) - min(of_class) <= 1


def test_every_turn_of_a_photo_has_a_number_of_its_own():
    made = turns(UNEVEN)
    assert len(set(made)) == len(made) == 30
    assert [turn.draw for turn in made if turn.photo == 29] == list(range(10))  # the only photo of its class


def test_a_balanced_order_depends_on_seed_and_epoch_alone_and_is_fresh_for_each():
    assert turns(UNEVEN, seed=1, epoch=2) == turns(UNEVEN, seed=1, epoch=2)
    assert len({tuple(turns(UNEVEN, seed=s, epoch=e)) for s in (0, 1) for e in (1, 2)}) == 4
    assert turns(UNEVEN, batch_size=3) == turns(UNEVEN, batch_size=8)


@pytest.mark.parametrize("labels", [UNEVEN, [0, 1], [3] * 5, list(range(6)), [0] * 40 + [1] * 20 + [2] * 20 + [5]])
def test_a_stratified_epoch_begins_with_each_class_and_goes_on_in_proportion(labels):
    for epoch in (1, 2, 3):
        places = [turn.photo for turn in turns(labels, epoch=epoch, order="stratified")]
        assert sorted(places) == list(range(len(labels)))  # each photo once
        of_class, drawn = Counter(labels), [labels[place] for place in places]
        assert set(drawn[: len(of_class)]) == set(labels)
        for end in range(len(of_class), len(labels) + 1):
            seen = Counter(drawn[:end])
            assert all(abs(seen[k] - of_class[k] * end / len(labels)) <= len(of_class) for k in of_class)
    assert turns(labels, batch_size=3, order="stratified") == turns(labels, batch_size=8, order="stratified")


def test_every_photo_of_a_large_class_has_its_turn_in_some_epoch():
    assert {turn.photo for epoch in range(1, 20) for turn in turns(UNEVEN, epoch=epoch)} == set(range(30))


def feed_of(root, cache, engine):
    found = scan(root)
    photos = [
        LabelledPhoto(photo.path, photo.file, found.classes.index(photo.class_name), file_digest(photo.path))
        for photo in found.photos
    ]
    policies = {"standard": STANDARD, "none": NOTHING}
    settings = {"seed": 0, "batch_size": 4, "workers": 1}
    if engine == "device":
        pixels = cache.pixels_of(photos, 40, 200)
        on = {"device": torch.device("cpu"), "most_resident_bytes": PLENTY}
        return DeviceBatches(photos, policies, pixels, PREPROCESSING, **on, **settings)
    on = {"engine": engine, "cache_side_px": 40, "reading": 200, "device": torch.device("cpu"), "cache": cache}
    return make_feed(photos, policies, PREPROCESSING, **on, **settings).batches


@pytest.mark.parametrize("engine", ["reference", "fused", "device"])
def test_a_photo_that_comes_again_looks_different_and_an_epoch_can_begin_at_a_later_step(make_photos, tmp_path, engine):
    if engine == "fused" and not fused.is_installed():
        pytest.skip("OpenCV is not installed")
    batches = feed_of(
        make_photos(tmp_path / "photos", {"cat": 12, "dog": 2}), Cache(tmp_path / "cache", PLENTY), engine
    )
    made = list(batches.epoch("standard", 1, order="balanced"))
    assert len(made) == batches.steps_per_epoch == 4
    images = [(file, image) for batch in made for file, image in zip(batch.files, batch.images, strict=True)]
    dogs = [image for file, image in images if file.startswith("dog")]
    assert len(dogs) == 7 and len({image.numpy().tobytes() for image in dogs}) == 7
    plain = list(batches.epoch("none", 1, order="balanced"))
    assert len({i.numpy().tobytes() for b in plain for i, f in zip(b.images, b.files, strict=True) if "dog" in f}) == 2
    later = list(batches.epoch("standard", 1, first_step=2, order="balanced"))
    assert [batch.files for batch in later] == [batch.files for batch in made[2:]]
    assert all(torch.equal(one.images, other.images) for one, other in zip(later, made[2:], strict=True))
