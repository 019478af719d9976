"""TrivialAugment and random erasing: torchvision's distributions and pixels, on a photo and on a batch."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import InterpolationMode, v2

from fieldguide.data.augment.device_extras import apply_extras, extras_of, names_of
from fieldguide.data.augment.draw import Drawn, draw
from fieldguide.data.augment.erasing import fill_colour
from fieldguide.data.augment.reference import reference
from fieldguide.data.augment.trivial_augment import (
    OPERATIONS,
    RANGES,
    STRENGTHS,
    Operation,
    apply_operation,
    draw_operation,
)
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.device_batches import DeviceBatches
from fieldguide.data.batch.fused_batches import FusedBatches
from fieldguide.data.read.cache import Cache
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.storage import file_digest
from tests.data.augment.test_reference import NOTHING, PREPROCESSING, STANDARD, STRONG, changed

pytest.importorskip("cv2")
from fieldguide.data.augment.fused import fused
from tests.data.augment.test_fused import LARGE, SIDE, difference, scene

WIDE = changed(STRONG, trivial_augment="wide")
ERASED = changed(STRONG, erasing=0.4)
BOTH = changed(WIDE, erasing=0.4)
THEIR_NAMES = {name: name.title().replace("_", "") for name in OPERATIONS}


def all_operations():
    """Each operation at a few strengths, both signs."""
    for name, (strength_of, is_signed) in RANGES.items():
        for bin_ in (0, 7, 16, STRENGTHS - 1):
            for sign in (1, -1) if is_signed else (1,):
                yield Operation(name, float(sign * strength_of(bin_ / (STRENGTHS - 1))))


def applied(operation, image):
    pixels = np.array(image)
    apply_operation(operation, pixels)
    return pixels


def square(number, detail=1.0):
    return scene(number, (SIDE, SIDE), detail, 300)


def test_operations_and_strengths_are_those_of_torchvision():
    theirs = v2.TrivialAugmentWide._AUGMENTATION_SPACE
    assert list(theirs) == [THEIR_NAMES[name] for name in OPERATIONS]
    for name, (strength_of, is_signed) in RANGES.items():
        magnitudes, signed = theirs[THEIR_NAMES[name]]
        found = magnitudes(STRENGTHS, SIDE, SIDE)
        ours = [strength_of(bin_ / (STRENGTHS - 1)) for bin_ in range(STRENGTHS)]
        assert signed == is_signed and ours == pytest.approx([0.0] * STRENGTHS if found is None else found.tolist())


def test_an_operations_pixels_are_torchvisions():
    theirs = v2.TrivialAugmentWide()._apply_image_or_video_transform
    for operation in all_operations():
        image, name = square(3), THEIR_NAMES[operation.name]
        expected = theirs(image, name, operation.strength, interpolation=InterpolationMode.NEAREST, fill={})
        off = difference(applied(operation, image), np.asarray(expected)).max(axis=2)
        assert (off > 0).mean() < 0.01, operation  # a warp may round a point between two pixels the other way


def on_device(drawn, images, colour=(9, 8, 7)):
    batch = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    extras = torch.from_numpy(np.stack([extras_of(one, SIDE) for one in drawn]))
    kept = batch.clone()
    made = apply_extras(batch, extras, names_of(drawn), torch.tensor(colour, dtype=torch.uint8))
    assert made.dtype == torch.uint8 and made.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, kept)
    return made.permute(0, 2, 3, 1).numpy()


def drawn_of(operation, erased=None):
    return Drawn((0, 0, SIDE, SIDE), False, False, 0.0, (), (0, 0), operation, erased, (9, 8, 7))


def test_a_device_makes_of_a_whole_batch_what_is_made_of_each_photo():
    operations = list(all_operations())
    images = [square(number) for number in range(len(operations))]
    theirs = on_device([drawn_of(operation) for operation in operations], images)
    for operation, image, pixels in zip(operations, images, theirs, strict=True):
        off = difference(applied(operation, image), pixels)
        rounds = operation.name in ("shear_x", "shear_y", "rotate")
        assert (off.max(axis=2) > 1).mean() < (0.01 if rounds else 1e-9), operation
        if abs(operation.strength) > 0.2 and operation.name != "solarize":
            assert not np.array_equal(pixels, np.asarray(image)) or operation.strength == 8, operation


@pytest.mark.parametrize("name", ["auto_contrast", "equalize", "contrast", "sharpness"])
def test_flat_and_nearly_flat_images_are_as_pillows_too(name):
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    few = pixels.copy()
    few[0, :5] = (10, 200, 91)
    for image in (pixels, few, np.zeros_like(pixels), np.full_like(pixels, 255)):
        operation = Operation(name, 0.5 if name in ("contrast", "sharpness") else 0.0)
        assert difference(on_device([drawn_of(operation)], [image])[0], applied(operation, image)).max() <= 1


def test_a_device_erases_the_box_of_each_photo_after_its_operation():
    images = [square(0), square(1), square(2)]
    drawn = [drawn_of(Operation("solarize", 0.0), (3, 5, 20, 9)), drawn_of(None, (0, 0, 10, 10)), drawn_of(None)]
    made = on_device(drawn, images)
    inverted = 255 - np.asarray(images[0])
    inverted[5:9, 3:20] = (9, 8, 7)
    assert np.array_equal(made[0], inverted) and np.array_equal(made[2], np.asarray(images[2]))
    assert (made[1][:10, :10] == (9, 8, 7)).all() and np.array_equal(made[1][10:], np.asarray(images[1])[10:])


def test_each_operation_is_drawn_as_often_as_any_other_and_signs_and_strengths_too():
    drawn = [draw(WIDE, LARGE, 150, 110, seed).operation for seed in range(7_000)]
    counts = [sum(one.name == name for one in drawn) for name in OPERATIONS]
    assert stats.chisquare(counts).pvalue > 0.01
    angles = [one.strength for one in drawn if one.name == "rotate"]
    assert stats.binomtest(sum(angle < 0 for angle in angles), sum(angle != 0 for angle in angles)).pvalue > 0.01
    found, counts = np.unique(np.abs(angles).round(3), return_counts=True)
    assert len(found) == STRENGTHS and stats.chisquare(counts).pvalue > 0.01
    assert all(draw(STRONG, LARGE, 150, 110, seed).operation is None for seed in range(50))


def test_photos_are_erased_as_often_as_said_and_boxes_are_torchvisions():
    drawn = [draw(ERASED, LARGE, 150, 110, seed) for seed in range(3_000)]
    boxes = [one.erased for one in drawn if one.erased]
    assert stats.binomtest(len(boxes), len(drawn), 0.4).pvalue > 0.01
    assert all(one.erased is None for one in (draw(STRONG, LARGE, 150, 110, seed) for seed in range(50)))
    torch.manual_seed(0)
    eraser = v2.RandomErasing(1.0)
    made = [eraser.make_params([torch.zeros(3, SIDE, SIDE)]) for _ in range(1_200)]
    theirs = np.array([[p["j"], p["i"], p["w"], p["h"]] for p in made if p["v"] is not None])
    ours = np.array([[left, top, right - left, bottom - top] for left, top, right, bottom in boxes])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 0.01


def test_with_both_off_nothing_is_drawn_that_was_not_and_with_them_on_the_rest_is_the_same():
    """The numbers are those of the version that had neither."""
    for seed in range(50):
        plain, both = draw(STRONG, LARGE, 150, 110, seed), draw(BOTH, LARGE, 150, 110, seed)
        assert dataclasses.replace(both, operation=None, erased=None, erased_colour=(0, 0, 0)) == plain
    before = draw(STRONG, LARGE, 150, 110, 5)
    assert (before.crop, before.shift, before.angle) == ((12, 1, 127, 106), (6, 5), pytest.approx(-5.491607674800081))


def test_reference_is_torchvisions_own_with_the_photos_own_numbers():
    policy = changed(STANDARD, trivial_augment="wide", erasing=0.5)
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), v2.RandomRotation(15),
            v2.ColorJitter(0.1, 0.1, 0.1, 0.1), v2.TrivialAugmentWide(), v2.RandomErasing(0.5, value=(128,) * 3),
        ]
    )  # fmt: skip
    augment, differs = reference(policy, PREPROCESSING), 0
    for seed in range(40):
        torch.manual_seed(seed)
        made = np.asarray(augment(scene(seed), seed))
        assert np.array_equal(made, theirs(scene(seed)))
        assert np.array_equal(made, augment(scene(seed), seed))
        differs += not np.array_equal(made, reference(STANDARD, PREPROCESSING)(scene(seed), seed))
    assert differs > 30
    assert np.array_equal(pickle.loads(pickle.dumps(augment))(scene(0), 7), augment(scene(0), 7))


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.485, 0.456, 0.406)])
def test_what_is_erased_is_nothing_after_normalisation(mean):
    preprocessing = Preprocessing(24, 27, "bilinear", mean, (0.2,) * 3)
    policy = changed(NOTHING, erasing=1.0)
    colour = fill_colour(mean)
    assert np.abs(np.array(colour) / 255 - mean).max() <= 0.5 / 255
    white = Image.new("RGB", (40, 40), "white")
    for seed in range(20):
        output = np.empty((24, 24, 3), np.uint8)
        fused(policy, preprocessing)(np.asarray(white), seed, output)
        for made in (output, np.asarray(reference(policy, preprocessing)(white, seed))):
            erased = (made != 255).any(axis=2)
            assert 0.01 < erased.mean() < 0.4 and (made[erased] == colour).all()


def test_the_mean_of_a_darker_or_brighter_preprocessing_is_still_a_colour():
    assert fill_colour((-0.5, 0.0, 2.0)) == (0, 0, 255)


def batches(root, policies, kind):
    photos = []
    root.mkdir(exist_ok=True)
    for number in range(12):
        path = root / f"{number}.png"
        scene(number, (60 + number, 50)).save(path)
        photos.append(LabelledPhoto(path, path.name, number % 2, file_digest(path)))
    pixels = Cache(root.parent / "cache", 10**9).pixels_of(photos, 40, 200)
    preprocessing = Preprocessing(24, 27, "bilinear", (0.485, 0.456, 0.406), (0.2,) * 3)
    common = {"seed": 3, "batch_size": 5}
    if kind == "device":
        return DeviceBatches(
            photos, policies, pixels, preprocessing, device=torch.device("cpu"), most_resident_bytes=10**9, **common
        )
    augmentations = {name: fused(policy, preprocessing) for name, policy in policies.items()}
    return FusedBatches(photos, augmentations, pixels, side_px=24, **common)


@pytest.mark.parametrize("kind", ["device", "fused"])
def test_batches_of_a_policy_without_them_are_to_the_bit_what_they_were_beside_one_with_them(tmp_path, kind):
    made = batches(tmp_path / "photos", {"plain": STRONG, "both": BOTH}, kind)
    alone = batches(tmp_path / "photos", {"plain": STRONG}, kind)
    plain, both, again, other = (
        torch.cat([batch.images for batch in some])
        for some in (alone.epoch("plain", 1), made.epoch("both", 1), made.epoch("both", 1), made.epoch("plain", 1))
    )
    assert torch.equal(plain, other) and torch.equal(both, again)
    changed = (plain != both).flatten(1).any(dim=1).sum()
    assert 8 <= changed <= 12


def test_a_device_and_opencv_make_the_same_of_the_same_photos(tmp_path):
    """But for their filters, which a threshold as solarize's or a table as equalize's can enlarge."""
    mild = changed(NOTHING, trivial_augment="wide", erasing=0.4)
    device, fused_ = (batches(tmp_path / "photos", {"both": mild}, kind) for kind in ("device", "fused"))
    off = []
    for epoch in range(1, 4):
        for ours, theirs in zip(device.epoch("both", epoch), fused_.epoch("both", epoch), strict=True):
            assert ours.files == theirs.files
            off.append((ours.images.float() - theirs.images.float()).abs().flatten(1).mean(dim=1))
    assert torch.cat(off).median() < 2 and torch.cat(off).max() < 20


def test_drawing_touches_no_generator():
    state = torch.get_rng_state()
    first = draw(BOTH, LARGE, 150, 110, 5)
    torch.manual_seed(1)
    assert draw(BOTH, LARGE, 150, 110, 5) == first
    torch.set_rng_state(state)
    assert draw_operation(np.random.default_rng(1)) == draw_operation(np.random.default_rng(1))
