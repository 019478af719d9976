import itertools
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageOps

from fieldguide.data.look import near
from fieldguide.data.look.align import aligned, laid_over, still
from fieldguide.data.look.facts import Print, facts_of
from fieldguide.data.look.near import NearPair, groups_of, near_pairs
from fieldguide.data.look.scan import Photo
from tests.data.scenes import cut, encoded, scaled, scene, write


def pairs(tmp_path, *images, parts=None):
    """The pairs among images, each written as a file and looked at."""
    facts = []
    for place, image in enumerate(images):
        path = tmp_path / f"{place}.jpg"
        write(image if isinstance(image, bytes) else encoded(image, quality=90), path)
        facts.append(facts_of(Photo(path, path.name, "train", "a")))
    assert not [entry.reason for entry in facts if entry.reason]
    aspects = [entry.width / entry.height for entry in facts]
    found = near_pairs([entry.print for entry in facts], aspects, parts=parts)
    return {(pair.first, pair.second): pair.distance for pair in found}


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: encoded(image, quality=35),
        lambda image: scaled(image, 0.5),
        lambda image: scaled(image, 1.7),
        lambda image: cut(image, 0.03, 0.03, 0.03, 0.03),
        lambda image: cut(image, left=0.03),
        lambda image: cut(image, top=0.03, right=0.02),
        lambda image: encoded(scaled(cut(image, 0.03, 0, 0, 0.03), 0.6), quality=60),
        lambda image: ImageOps.autocontrast(image, cutoff=1),
    ],
)
def test_a_copy_is_found_and_nothing_else(tmp_path, copy):
    images = [scene(number, (300, 220)) for number in range(6)]
    found = pairs(tmp_path, *images, copy(images[2]))
    assert list(found) == [(2, 6)] and 0 <= found[2, 6] <= 0.25


def test_equal_pixels_need_no_placing_and_give_what_placing_gives():
    draw = np.random.default_rng(0)
    gray, colour = (draw.integers(0, 256, shape, dtype=np.uint8) for shape in ((96, 96), (2, 32, 32)))
    same, tinted = Print(gray.copy(), colour.copy(), 0), Print(gray.copy(), 255 - colour, 0)
    prints = dict(enumerate([Print(gray, colour, 0), same, tinted]))
    first, second = np.array([0, 0]), np.array([1, 2])
    found = near._confirmed(prints, first, second)
    assert found == near._agreed(prints, first, second) == [NearPair(0, 1, 0.0)]


@pytest.mark.parametrize("side", [112, 224, 256])
def test_a_copy_squashed_into_a_square_is_found_across_parts(tmp_path, side):
    images = [scene(number, (300, 225)) for number in range(6)]
    squashed = images[2].resize((side, side), Image.Resampling.BICUBIC)
    others = [scene(number, (224, 224)) for number in range(10, 13)]
    found = pairs(tmp_path, *images, squashed, *others, parts=[["train"]] * 6 + [["val"]] * 4)
    assert list(found) == [(2, 6)]


def test_each_photo_is_compared_with_the_best_of_every_part_however_many_its_own_part_has(tmp_path):
    burst = [encoded(scene(5, (320, 240)), quality=quality) for quality in (*range(70, 95), 34, 30)]
    parts = [["train"]] * 25 + [["train", "val"], ["test"]]
    found = pairs(tmp_path, *burst, parts=parts)
    assert {(place, last) for place in range(25) for last in (25, 26)} | {(25, 26)} <= found.keys()
    assert pairs(tmp_path, *burst, parts=[["train"]] * 27) == pairs(tmp_path, *burst) != found


def motorbike(colour, extra=None):
    """A look-alike: the same drawing on white, in some colour, with or without a thing on it."""
    image = Image.new("RGB", (240, 180), "white")
    drawing = scene(4, (160, 80)).convert("L")
    image.paste(ImageOps.colorize(drawing, "black", colour), (40, 50))
    if extra:
        image.paste(extra, (90, 70, 130, 100))
    return image


def test_the_same_thing_in_another_colour_is_another_photo(tmp_path):
    assert pairs(tmp_path, motorbike("red"), motorbike("lime")) == {}


def test_a_thing_that_was_not_there_before_makes_another_photo(tmp_path):
    assert pairs(tmp_path, motorbike("white"), motorbike("white", "black")) == {}


def test_a_mirrored_photo_is_another_photo(tmp_path):
    assert pairs(tmp_path, scene(3), ImageOps.mirror(scene(3))) == {}


def test_blank_photos_are_not_compared(tmp_path):
    assert pairs(tmp_path, Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "snow"), scene(1)) == {}


def test_one_photo_and_no_photo_have_no_pairs(tmp_path):
    assert pairs(tmp_path) == {} and pairs(tmp_path, scene(1)) == {}


def test_the_whole_work_is_told_as_it_is_done(tmp_path):
    shares = []
    path = write(encoded(scene(1)), tmp_path / "x.jpg")
    made = facts_of(Photo(path, "x.jpg", "train", "a")).print
    near_pairs([made, made], [1.0, 1.0], shares.append)
    assert sum(shares) == pytest.approx(1)


def test_alignment_finds_how_a_photo_was_cut():
    whole = scene(1, (400, 400)).convert("L")
    prints = [np.asarray(image.resize((96, 96)), np.float32)[None] for image in (whole, cut(whole, left=0.03))]
    placement = aligned(*prints, still(1), steps=10)[0]
    # Of the cut photo, [0.03, 1] became [0, 1]: stretched by 1 / 0.97, its middle moved by as much as its half lost.
    assert placement == pytest.approx([1 / 0.97, -0.03 / 0.97, 1, 0], abs=0.004)


def test_laying_a_print_over_itself_changes_nothing():
    print_ = np.random.default_rng(0).random((2, 32, 32), np.float32)
    laid, mask = laid_over(print_, still(2))
    assert np.allclose(laid, print_) and mask.all()


def chain(*places):
    return [NearPair(a, b, 0.1) for a, b in itertools.pairwise(places)]


def test_pairs_that_share_a_photo_become_one_group():
    kept, large = groups_of([*chain(0, 3, 5), *chain(1, 2)], ["a"] * 100)
    assert kept == [[0, 3, 5], [1, 2]] and large == []


def test_a_group_of_over_five_percent_of_a_class_is_named_and_not_chained():
    kept, large = groups_of([*chain(*range(9)), *chain(20, 21)], ["a"] * 100)
    assert kept == [[20, 21]] and large == [list(range(9))]


def test_a_handful_is_kept_together_in_a_small_class_and_many_in_a_large_one():
    assert groups_of(chain(*range(8)), ["a"] * 10)[1] == []
    assert groups_of(chain(*range(9)), ["a"] * 1000)[1] == []


def look_alikes(count, of, seed=0):
    """Prints and aspects of photos that are nearly alike within each of `of` kinds, some of them not quite."""
    draw = np.random.default_rng(seed)
    kinds = [(draw.normal(128, 50, (16, 16)), int(draw.integers(2**63))) for _ in range(of)]
    prints = []
    for place in range(count):
        gray, phash = kinds[place % of]
        gray = (gray + draw.normal(0, draw.choice([5, 30, 60]), (16, 16))).repeat(6, 0).repeat(6, 1)
        for bit in draw.integers(0, 64, draw.integers(0, 14)):
            phash ^= 1 << int(bit)
        prints.append(Print(np.clip(gray, 0, 255).astype(np.uint8), np.zeros((2, 32, 32), np.uint8), phash))
    return prints, draw.choice([1.0, 1.05, 1.3], count)


def candidates_of_lists(prints, aspects):
    """Candidates from lists of all pairs of a block of rows."""
    hashes, shape = np.array([made.phash for made in prints], np.uint64), np.log(aspects)
    rough, found = near._rough(prints), []
    for start in range(0, len(prints), near.ROWS_AT_ONCE):
        bits = np.bitwise_count(hashes[start : start + near.ROWS_AT_ONCE, None] ^ hashes[None])
        row, other = np.nonzero(bits <= near.MAX_HASH_BITS)
        row += start
        square = np.minimum(np.abs(shape[row]), np.abs(shape[other])) <= near.SQUARE_LOG_ASPECT
        squashed = square & (bits[row - start, other] <= near.MAX_SQUASHED_BITS)
        keep = (row != other) & (squashed | (np.abs(shape[row] - shape[other]) <= near.MAX_LOG_ASPECT))
        row, other = row[keep], other[keep]
        if len(row) < near.DENSE_PAIRS_PER_PHOTO * len(rough):
            alike = np.einsum("ij,ij->i", rough[row], rough[other])
        else:
            alike = (rough[start : start + near.ROWS_AT_ONCE] @ rough.T)[row - start, other]
        keep = alike >= near.MIN_ROUGH_CORRELATION
        row, other, alike = row[keep], other[keep], alike[keep]
        order = np.lexsort((-alike, row))
        row, other = row[order], other[order]
        keep = np.arange(len(row)) - np.searchsorted(row, row) < near.MOST_CANDIDATES
        found.append(np.column_stack([row[keep], other[keep]]))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0).T


@pytest.mark.parametrize(("count", "of"), [(700, 1), (700, 3), (600, 200), (40, 2), (2, 1), (2, 2)])
def test_the_candidates_are_those_of_a_list_of_all_pairs(count, of):
    prints, aspects = look_alikes(count, of)
    found = near._candidates(prints, aspects, np.ones((1, count), bool))
    expected = candidates_of_lists(prints, aspects)
    assert np.array_equal(found, expected) and (len(found[0]) > 100 or count < 100)


def test_thousands_of_look_alikes_need_no_list_of_all_their_pairs():
    prints, aspects = look_alikes(1500, 1)
    tracemalloc.start()
    try:
        near._candidates(prints, aspects, np.ones((1, 1500), bool))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 512 * 1500 * 16  # a list has two places of 8 bytes a pair, and what is sorted by


def test_where_it_is_late_the_pairs_found_so_far_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", 1)
    made = []
    for number in (1, 1, 2, 2, 3, 3):
        path = write(encoded(scene(number, (300, 220))), tmp_path / f"{len(made)}.jpg")
        made.append(facts_of(Photo(path, path.name, "train", "a")).print)
    asked = iter([False, True])  # after each pair
    found = near_pairs(made, [300 / 220] * 6, is_late=lambda: next(asked))
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (2, 3)]
    assert len(near_pairs(made, [300 / 220] * 6)) == 3
    some = [None, *made[1:]]  # without a print, nothing is known of it
    assert [(pair.first, pair.second) for pair in near_pairs(some, [300 / 220] * 6)] == [(2, 3), (4, 5)]
