"""Augmentation: torchvision's own, with random numbers of (seed, epoch, photo) alone."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fieldguide.data.augment.reference import photo_seed, reference
from fieldguide.data.read.preprocess import Preprocessing, center
from fieldguide.settings import NONE as NOTHING
from fieldguide.settings import STANDARD, STRONG
from tests.data.photo_folders import make_photo

PREPROCESSING = Preprocessing(24, 27, "bilinear", (0.5,) * 3, (0.5,) * 3)


def changed(policy, **fields):
    """The policy with these fields."""
    return policy.model_copy(update=fields)


TORCHVISION = {
    "standard": v2.Compose(
        [
            v2.RandomResizedCrop(24),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15),
            v2.ColorJitter(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
        ]
    ),
    "strong": v2.Compose(
        [
            v2.RandomResizedCrop(24, scale=(0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(p=0.2),
            v2.RandomRotation(30),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
            v2.RandomAffine(degrees=0, translate=(0.1, 0.1)),
        ]
    ),
}


@pytest.mark.parametrize(("policy", "name"), [(STANDARD, "standard"), (STRONG, "strong")])
def test_the_reports_phases_are_torchvisions_transforms_to_the_last_bit(policy, name):
    augment = reference(policy, PREPROCESSING)
    for seed in range(25):
        photo = make_photo("x", seed, (60, 45))
        torch.manual_seed(seed)
        expected = TORCHVISION[name](photo)
        assert np.array_equal(augment(photo, seed), expected)


def test_an_augmentation_leaves_the_generator_and_the_photo_as_they_were():
    photo = make_photo("x", 0)
    before, state = np.array(photo), torch.get_rng_state()
    reference(STRONG, PREPROCESSING)(photo, 5)
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(photo, before)


def test_an_augmentation_does_not_depend_on_the_generator():
    augment, photo = reference(STRONG, PREPROCESSING), make_photo("x", 0)
    torch.manual_seed(1)
    first = augment(photo, 5)
    torch.manual_seed(2)
    assert np.array_equal(augment(photo, 5), first) and not np.array_equal(augment(photo, 6), first)


def test_an_augmentation_does_not_touch_the_generators_of_a_gpu(monkeypatch):
    def refuse(seed):
        raise AssertionError("the GPU's generators were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    assert reference(STANDARD, PREPROCESSING)(make_photo("x", 0), 1).size == (24, 24)


def test_a_photos_seed_depends_on_seed_epoch_and_photo_alone():
    seeds = {photo_seed(seed, epoch, file) for seed in range(4) for epoch in range(4) for file in ("a", "b", "1", "11")}
    assert len(seeds) == 64 and all(0 <= seed < 2**63 for seed in seeds)
    assert photo_seed(1, 2, "train/käse/a.jpg") == photo_seed(1, 2, "train/käse/a.jpg")
    assert photo_seed(1, 11, "a") != photo_seed(11, 1, "a")


def test_no_crop_means_the_centre_crop_of_validation():
    photo = make_photo("x", 0, (90, 50))
    assert np.array_equal(reference(NOTHING, PREPROCESSING)(photo, 3), center(photo, PREPROCESSING))


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"horizontal_flip": 1}, lambda image: np.asarray(image)[:, ::-1]),
        ({"vertical_flip": 1}, lambda image: np.asarray(image)[::-1]),
    ],
)
def test_flips_happen_as_often_as_said(change, effect):
    photo = make_photo("x", 0, (27, 27))
    plain = center(photo, PREPROCESSING)
    flipped = reference(changed(NOTHING, **change), PREPROCESSING)
    assert all(np.array_equal(flipped(photo, seed), effect(plain)) for seed in range(20))
    half = reference(changed(NOTHING, **dict.fromkeys(change, 0.5)), PREPROCESSING)
    assert 60 < sum(np.array_equal(half(photo, seed), plain) for seed in range(200)) < 140


def test_without_flips_nothing_is_flipped():
    photo = make_photo("x", 0, (27, 27))
    augment = reference(NOTHING, PREPROCESSING)
    assert all(np.array_equal(augment(photo, seed), center(photo, PREPROCESSING)) for seed in range(30))


@pytest.mark.parametrize("change", [{"rotation_degrees": 45}, {"translation_share": 0.4}])
def test_what_is_turned_or_moved_in_is_black(change):
    photo = make_photo("x", 0, (27, 27))
    augment = reference(changed(NOTHING, **change), PREPROCESSING)
    assert all((np.asarray(augment(photo, seed)) == 0).all(axis=2).any() for seed in range(5, 10))


def test_the_interpolation_of_the_preprocessing_is_that_of_the_crop():
    photo = make_photo("x", 0, (90, 50))
    bicubic = dataclasses.replace(PREPROCESSING, interpolation="bicubic")
    assert not np.array_equal(reference(STANDARD, bicubic)(photo, 1), reference(STANDARD, PREPROCESSING)(photo, 1))


def test_an_augmentation_can_be_sent_to_a_worker_that_is_spawned():
    augment, photo = reference(STRONG, PREPROCESSING), make_photo("x", 0)
    assert np.array_equal(pickle.loads(pickle.dumps(augment))(photo, 7), augment(photo, 7))
