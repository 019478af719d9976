"""Folds: each photo held out once, what belongs together held out together, and no class that a model never saw."""

import csv
from collections import Counter

import numpy as np
import pytest

from fieldguide import PhotosError
from fieldguide.data.split.folds import folds_csv, make_folds
from fieldguide.data.split.partition import Row, Split


def split_of(counts, more=()):
    """A split of so many photos of each class, each with content of its own, and the rows of `more`."""
    rows = [
        Row(f"{name}/{number:03d}.png", name, "train", f"{name}, {number}")
        for name, count in counts.items()
        for number in range(count)
    ]
    return Split((*rows, *more))


def held_out(folds):
    """The files of each fold's validation."""
    return [{row.file for row in split.part("val")} for split in folds.splits]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_photo_is_held_out_once_and_trained_on_in_all_other_folds(seed, folds):
    split = split_of({"ash": 23, "beech": 11, "cedar": 5})
    made = make_folds(split, seed=seed, folds=folds)
    assert Counter(file for files in held_out(made) for file in files) == {row.file: 1 for row in split.rows}
    for of_fold, files in zip(made.splits, held_out(made), strict=True):
        assert {row.file for row in of_fold.part("train")} == {row.file for row in split.rows} - files
        assert [row.file for row in of_fold.rows] == [row.file for row in split.rows]
        assert of_fold.classes == ["ash", "beech", "cedar"]
    assert made.remarks == ()


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_stratified(seed):
    made = make_folds(split_of({"ash": 23, "beech": 11, "cedar": 7}), seed=seed, folds=5)
    for name in ("ash", "beech", "cedar"):
        counts = [sum(row.class_name == name for row in split.part("val")) for split in made.splits]
        assert max(counts) - min(counts) <= 1
    sizes = [len(files) for files in held_out(made)]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides_and_the_validation_of_before_does_not():
    split = split_of({"ash": 20, "beech": 20})
    moved = Split(tuple(Row(r.file, r.class_name, "val" if i % 3 else "train", r.content_hash)
                        for i, r in enumerate(split.rows)))  # fmt: skip
    one = held_out(make_folds(split, seed=1, folds=4))
    assert one == held_out(make_folds(moved, seed=1, folds=4)) and one != held_out(make_folds(split, seed=2, folds=4))


@pytest.mark.parametrize("seed", range(10))
def test_what_belongs_together_is_never_in_two_folds(seed):
    draw = np.random.default_rng(seed)
    rows = [Row(f"{i:03d}", "abc"[i % 3], "train", f"hash{draw.integers(40)}") for i in range(90)]
    groups = [[rows[i].file for i in draw.choice(90, size=3, replace=False)] for _ in range(6)]
    made = make_folds(Split(tuple(rows)), seed=seed, folds=4, groups=[*groups, ["not", "there"]])
    place = made.place_of()
    content = {}
    for row in rows:
        assert content.setdefault(row.content_hash, place[row.file]) == place[row.file]
    assert all(len({place[file] for file in group}) == 1 for group in groups)


def test_groups_that_share_a_content_or_a_file_are_one():
    rows = [Row(name, "ash", "train", content) for name, content in zip("abcdef", "112345", strict=True)]
    split = split_of({"ash": 30, "beech": 30}, rows)
    place = make_folds(split, seed=0, folds=5, groups=[["a", "c"], ["b", "d"], ["d", "e"]]).place_of()
    assert len({place[name] for name in "abcde"}) == 1


def test_a_class_with_one_photo_stays_in_training_with_a_warning():
    made = make_folds(split_of({"ash": 10, "beech": 10, "oak": 1}), seed=0, folds=5)
    assert made.place_of()["oak/000.png"] == "train"
    assert all("oak" in split.classes for split in made.splits)
    (remark,) = made.remarks
    assert remark.sentence == "classes with one photo; it stays in training and is never validated: oak"


def test_a_class_with_fewer_photos_than_folds_is_spread_as_far_as_it_goes_with_a_warning():
    made = make_folds(split_of({"ash": 20, "oak": 3}), seed=0, folds=5)
    counts = [sum(row.class_name == "oak" for row in split.part("val")) for split in made.splits]
    assert sorted(counts) == [0, 0, 1, 1, 1]
    (remark,) = made.remarks
    assert remark.sentence == "classes too small for 5 folds, so missing in some: oak (in 3)"


def test_a_class_that_is_one_group_stays_in_training():
    names = [f"oak/{number:03d}.png" for number in range(4)]
    made = make_folds(split_of({"ash": 20, "beech": 20, "oak": 4}), seed=0, folds=2, groups=[names])
    assert {made.place_of()[name] for name in names} == {"train"}
    (remark,) = made.remarks
    assert "4 photos in training in every fold" in remark.sentence and "oak/003.png" in remark.sentence


@pytest.mark.parametrize("seed", range(30))
def test_no_fold_ever_takes_the_last_photos_of_a_class(seed):
    """Also where the same photo stands under several labels, and with as few photos as folds."""
    draw = np.random.default_rng(seed)
    rows = [Row(f"{i:02d}", "abcdef"[draw.integers(6)], "train", f"hash{draw.integers(14)}") for i in range(24)]
    made = make_folds(Split(tuple(rows)), seed=seed, folds=2)
    for split in made.splits:
        assert split.classes == sorted({row.class_name for row in rows})


def test_excluded_and_test_photos_stay_where_they_are():
    more = [Row("bad.png", "ash", "excluded", "", "is empty"), Row("test/1.png", "", "test", "t1")]
    made = make_folds(split_of({"ash": 4, "beech": 4, "oak": 1}, more), seed=0, folds=2)
    assert all(split.rows[-2:] == tuple(more) for split in made.splits)
    rows = list(csv.reader(folds_csv(made).splitlines()))
    assert rows[0] == ["file", "class", "fold", "content_hash"] and len(rows) == 12
    assert rows[-2:] == [["bad.png", "ash", "excluded", ""], ["test/1.png", "", "test", "t1"]]
    assert Counter(row[2] for row in rows[1:]) == {"1": 4, "2": 4, "train": 1, "excluded": 1, "test": 1}


def test_more_folds_than_photos_are_refused():
    with pytest.raises(PhotosError, match=r"split.folds is 9, but 3 folds would hold out no photo; add photos or set"):
        make_folds(split_of({"ash": 3, "beech": 3}), seed=0, folds=9)


def test_many_photos_are_dealt_in_no_time():
    made = make_folds(split_of({f"class {number}": 40 for number in range(250)}), seed=0, folds=10)
    assert all(len(files) == 1_000 for files in held_out(made))
