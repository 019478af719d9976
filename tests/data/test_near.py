import itertools

import numpy as np
import pytest
from PIL import Image, ImageOps

from fieldguide.data.align import aligned, laid_over, still
from fieldguide.data.facts import facts_of
from fieldguide.data.near import NearPair, groups_of, near_pairs
from fieldguide.data.scan import Photo
from tests.data.scenes import cut, encoded, scaled, scene, write


def pairs(tmp_path, *images):
    """The pairs among images, each written as a file and looked at."""
    facts = []
    for place, image in enumerate(images):
        path = tmp_path / f"{place}.jpg"
        write(image if isinstance(image, bytes) else encoded(image, quality=90), path)
        facts.append(facts_of(Photo(path, path.name, "train", "a")))
    assert not [entry.reason for entry in facts if entry.reason]
    found = near_pairs([entry.print for entry in facts], [entry.width / entry.height for entry in facts])
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
