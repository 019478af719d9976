"""The fused augmentation: torchvision's distributions, and its pixels for the same parameters within a tolerance."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import stats
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from fieldguide.data.augment import draw as drawing
from fieldguide.data.augment.draw import Drawn, colours, draw, hue_rotation
from fieldguide.data.read.preprocess import Preprocessing, center
from tests.data.augment.test_reference import NOTHING, PREPROCESSING, STANDARD, STRONG, changed

cv2 = pytest.importorskip("cv2")
from fieldguide.data.augment.fused import apply, fused, one_thread_a_call  # noqa: E402

SIDE = 64
LARGE = Preprocessing(SIDE, 72, "bilinear", (0.5,) * 3, (0.5,) * 3)
COLOURS = {name: getattr(STRONG, name) for name in ("brightness", "contrast", "saturation", "hue")}


def scene(number, size=(150, 110), detail=2.0, brightest=190):
    """A photo with edges of all directions, soft and hard, and some saturated colours; `detail` is the blur in px."""
    chance = np.random.default_rng(number)
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), chance.uniform(50, 170, 3))
    for _ in range(25):
        across, down = chance.uniform(0, width), chance.uniform(0, height)
        inside = np.hypot((x - across) * chance.uniform(0.5, 2), y - down) < chance.uniform(5, 30)
        pixels[inside] = 0.5 * pixels[inside] + 0.5 * chance.uniform(20, brightest, 3)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(detail))


def made(drawn, image, side=SIDE):
    output = np.full((side, side, 3), 77, np.uint8)
    apply(drawn, np.asarray(image), output)
    return output


def by_torchvision(drawn, image, side=SIDE):
    """torchvision's own functions one after another in float, with the same parameters; rotated bilinearly."""
    left, top, width, height = map(int, drawn.crop)
    now = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    now = functional.resized_crop(now, top, left, height, width, [side, side], antialias=True)
    if drawn.horizontal_flip:
        now = functional.horizontal_flip(now)
    if drawn.vertical_flip:
        now = functional.vertical_flip(now)
    if drawn.angle:
        now = functional.rotate(now, drawn.angle, InterpolationMode.BILINEAR)
    for name, value in drawn.jitters:
        now = getattr(functional, f"adjust_{name}")(now, value)
    now = functional.affine(now, 0, list(drawn.shift), 1, [0, 0])
    return now.permute(1, 2, 0).numpy() * 255


def difference(first, second):
    return np.abs(first.astype(float) - second.astype(float))


def drawings(policy, count, size=(150, 110)):
    return [(seed, draw(policy, LARGE, *size, seed)) for seed in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(150, 110), (300, 400), (40, 60)])
def test_pixels_are_those_of_torchvision_in_float_for_the_same_parameters(size):
    """All but rotation and hue, nothing clipped on the way: 0.7 of 256 levels in the mean of a photo, 4 at 99 %."""
    policy = changed(STRONG, hue=0, rotation_degrees=0)
    for seed, drawn in drawings(policy, 30, size):
        off = difference(made(drawn, scene(seed, size)), by_torchvision(drawn, scene(seed, size)))
        assert off.mean() < 0.7 and np.quantile(off, 0.99) < 4, (seed, drawn)


def test_a_rotation_differs_at_the_edge_of_the_black_alone():
    policy = changed(STRONG, hue=0)
    for seed, drawn in drawings(policy, 30):
        ours, theirs = made(drawn, scene(seed)), by_torchvision(drawn, scene(seed))
        off = difference(ours, theirs).max(axis=2)
        white = made(dataclasses.replace(drawn, jitters=()), Image.new("RGB", (150, 110), "white"))
        near_black = cv2.dilate((white[..., 0] == 0).astype(np.uint8), np.ones((5, 5))) > 0
        assert np.quantile(off[~near_black], 0.97) < 4 and np.mean(off > 12) < 0.08, (seed, drawn)


def test_bright_photos_are_clipped_once_and_what_that_costs():
    """Where brightness goes over 255 before another jitter: still 1.5 levels in the mean of the worst photo."""
    policy = changed(STRONG, hue=0, rotation_degrees=0)
    for seed, drawn in drawings(policy, 30):
        image = scene(seed, brightest=350)
        assert difference(made(drawn, image), by_torchvision(drawn, image)).mean() < 1.5, (seed, drawn)


def test_sharp_detail_costs_more_and_how_much():
    """Photos of single-pixel edges: 3 levels in the mean; the filters of both sides differ there."""
    policy = changed(STRONG, hue=0, rotation_degrees=0)
    for size in ((150, 110), (300, 400)):
        off = [
            difference(made(drawn, scene(seed, size, 0)), by_torchvision(drawn, scene(seed, size, 0))).mean()
            for seed, drawn in drawings(policy, 20, size)
        ]
        assert np.mean(off) < 1.5 and max(off) < 3


def test_the_hue_is_off_by_less_than_the_shift_itself():
    """Over random muted colours; docs/performance.md has the figures for photos."""
    chance = np.random.default_rng(0)
    gray = chance.integers(0, 256, (4_000, 1))
    muted = (gray + chance.normal(0, 25, (4_000, 3))).clip(0, 255).astype(np.uint8)
    image = torch.from_numpy(muted.T.reshape(3, 4_000, 1).copy()).float() / 255
    for share in (-0.1, -0.05, 0.05, 0.1):
        theirs = functional.adjust_hue(image, share).reshape(3, -1).numpy().T * 255
        ours = (muted @ hue_rotation(share).T).clip(0, 255)
        off, moved = np.abs(ours - theirs).mean(), np.abs(theirs - muted).mean()
        assert off < 90 * abs(share) and off < 0.85 * moved


def test_the_hue_is_exact_for_grays_and_for_thirds_of_the_circle():
    colours = np.random.default_rng(0).uniform(0, 255, (50, 3))
    assert np.allclose(colours @ hue_rotation(1 / 3).T, colours[:, [2, 0, 1]])
    assert np.allclose(hue_rotation(0.07) @ np.full(3, 90.0), 90) and np.allclose(hue_rotation(0), np.eye(3))
    turned = functional.adjust_hue(torch.tensor([0.8, 0.3, 0.1]).reshape(3, 1, 1), 1 / 3).flatten().numpy()
    assert np.allclose(np.array([0.8, 0.3, 0.1]) @ hue_rotation(1 / 3).T, turned, atol=1e-5)


def test_the_colour_matrices_are_the_jitters_one_after_another_in_their_order():
    photo = np.random.default_rng(3).uniform(100, 150, (500, 3))  # in the middle, where nothing is clipped
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(40):
        drawn = draw(STRONG, LARGE, 40, 40, seed)
        now = photo
        for name, value in drawn.jitters:
            if name == "brightness":
                now = value * now
            elif name == "contrast":
                now = value * now + (1 - value) * (now @ luma).mean()
            elif name == "saturation":
                now = value * now + (1 - value) * (now @ luma)[:, None]
            else:
                now = now @ hue_rotation(value).T
        direct, of_mean = colours(drawn)
        assert np.allclose(photo @ direct.T + of_mean @ photo.mean(axis=0), now)


def drawn_values(policy, name, count=2_000, size=(150, 110)):
    return [getattr(draw(policy, LARGE, *size, seed), name) for seed in range(count)]


def same_distribution(ours, theirs):
    return stats.ks_2samp(ours, theirs).pvalue > 0.01


@pytest.mark.parametrize(
    ("size", "scale"), [((150, 110), (0.08, 1.0)), ((400, 50), (0.3, 1.0)), ((50, 90), (0.9, 1.0))]
)
def test_crops_are_distributed_as_torchvisions(size, scale):
    torch.manual_seed(0)
    image = torch.zeros(3, size[1], size[0])
    theirs = np.array(
        [v1.RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(2_000)]
    )  # top, left, height, width
    policy = changed(STANDARD, crop_scale=scale)
    ours = np.array(drawn_values(policy, "crop", size=size))[:, [1, 0, 3, 2]]
    assert all(same_distribution(ours[:, column], theirs[:, column]) for column in range(4))
    assert same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert same_distribution(ours[:, 2] / ours[:, 3], theirs[:, 2] / theirs[:, 3])
    assert (ours[:, 0] + ours[:, 2] <= size[1]).all() and (ours[:, 1] + ours[:, 3] <= size[0]).all()


def test_a_difference_of_distributions_is_seen():
    narrower = changed(STANDARD, crop_scale=(0.14, 1.0))
    areas = [[w * h for _, _, w, h in drawn_values(policy, "crop")] for policy in (STANDARD, narrower)]
    assert not same_distribution(*areas)


def test_rotations_and_translations_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    angles = [v1.RandomRotation.get_params([-30.0, 30.0]) for _ in range(2_000)]
    assert same_distribution(drawn_values(STRONG, "angle"), angles)
    shifts = [v1.RandomAffine.get_params([0.0, 0.0], [0.1, 0.1], None, None, [SIDE, SIDE])[1] for _ in range(2_000)]
    for axis in (0, 1):
        ours = [shift[axis] for shift in drawn_values(STRONG, "shift")]
        assert same_distribution(ours, [shift[axis] for shift in shifts]) and min(ours) == -6 and max(ours) == 6


def test_colours_are_distributed_as_torchvisions_each_in_every_place():
    torch.manual_seed(0)
    theirs = [v1.ColorJitter.get_params([0.8, 1.2], [0.8, 1.2], [0.8, 1.2], [-0.1, 0.1]) for _ in range(2_000)]
    ours = drawn_values(STRONG, "jitters")
    for place, name in enumerate(drawing.JITTERS):
        assert same_distribution([dict(jitters)[name] for jitters in ours], [drawn[1 + place] for drawn in theirs])
    orders = [tuple(name for name, _ in jitters) for jitters in ours]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 0.01


def test_flips_come_as_often_as_said():
    for name, share in (("horizontal_flip", 0.5), ("vertical_flip", 0.2)):
        assert stats.binomtest(sum(drawn_values(STRONG, name)), 2_000, share).pvalue > 0.01
        assert not any(drawn_values(changed(STRONG, **{name: 0}), name, 200))
        assert all(drawn_values(changed(STRONG, **{name: 1}), name, 200))


def test_what_chance_draws_is_drawn_independently():
    drawn = [draw(STRONG, LARGE, 150, 110, seed) for seed in range(2_000)]
    columns = np.array(
        [
            [
                d.crop[2] * d.crop[3],
                d.horizontal_flip,
                d.vertical_flip,
                d.angle,
                *d.shift,
                *(v for _, v in sorted(d.jitters)),
            ]
            for d in drawn
        ],
        dtype=float,
    )
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 0.09  # 4 standard errors


def test_the_draw_depends_on_its_arguments_alone_and_touches_no_generator():
    state, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = draw(STRONG, LARGE, 150, 110, 5)
    torch.manual_seed(1)
    np.random.default_rng(1).random()
    assert draw(STRONG, LARGE, 150, 110, 5) == first != draw(STRONG, LARGE, 150, 110, 6)
    torch.set_rng_state(state)
    assert (np.random.get_state()[1] == of_numpy).all()


def test_no_crop_is_the_centre_of_validation():
    for size in ((150, 110), (72, 72), (90, 300)):
        image = scene(1, size)
        ours = made(draw(NOTHING, LARGE, *size, 3), image)
        assert difference(ours, np.asarray(center(image, LARGE))).mean() < 1


def test_what_the_rotation_turns_in_is_lifted_by_contrast_and_what_the_translation_moves_in_is_black():
    image = scene(0)
    plain = Drawn((0, 0, 150, 110), False, False, 30.0, (), (0, 0))
    assert (made(plain, image)[0, 0] == 0).all() and (made(plain, image)[32, 32] > 0).all()
    lifted = made(dataclasses.replace(plain, jitters=(("contrast", 0.5),)), image)
    theirs = by_torchvision(dataclasses.replace(plain, jitters=(("contrast", 0.5),)), image)
    assert lifted[0, 0].min() > 10 and difference(lifted[0, 0], theirs[0, 0]).max() < 3
    moved = made(dataclasses.replace(plain, jitters=(("contrast", 0.5),), shift=(5, -3)), image)
    assert (moved[:, :5] == 0).all() and (moved[-3:] == 0).all() and moved[0, 5].min() > 10


@pytest.mark.parametrize("size", [(1, 1), (1, 3_000), (40_000, 2), (3, 2), (33_000, 40)])
def test_photos_of_any_shape_can_be_augmented(size):
    augment = fused(STRONG, LARGE)
    photo = np.full((size[1], size[0], 3), 200, np.uint8)
    output = np.empty((SIDE, SIDE, 3), np.uint8)
    for seed in range(5):
        augment(photo, seed, output)
        assert output.max() > 100


def test_a_photo_that_cannot_be_written_to_is_not_changed():
    photo = np.asarray(scene(0))
    before = photo.copy()
    assert not photo.flags.writeable
    fused(STRONG, PREPROCESSING)(photo, 1, np.empty((24, 24, 3), np.uint8))
    assert (photo == before).all()


def test_opencvs_threads_are_as_before():
    before = cv2.getNumThreads()
    with one_thread_a_call():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
