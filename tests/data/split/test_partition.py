"""Which photo is in which part: every promise of the split, held by photos that only have names."""

import math
import os
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fieldguide.data.look.inspect import Inspected, inspect
from fieldguide.data.look.scan import Photo, scan
from fieldguide.data.split import make as splitting
from fieldguide.data.split.make import make_split
from fieldguide.data.split.partition import Row, Split, read_split, whole_groups, write_split
from fieldguide.errors import PhotosError, UsageError


def photo(file, content=None, part="train", class_name=None, reason=""):
    return Inspected(Photo(Path(file), file, part, class_name or file.split("/")[0]), content or file, reason)


def split_of(inspected, *, seed=0, share=0.2, has_validation=False, leaks="refuse"):
    split, remarks = make_split(
        inspected, seed=seed, validation_share=share, has_validation=has_validation, leaks=leaks
    )
    return split, [remark.sentence for remark in remarks]


def many(counts):
    return [photo(f"{name}/{number}") for name, count in counts.items() for number in range(count)]


def counts_of(split, part):
    return dict(Counter(row.class_name for row in split.part(part)))


def test_the_split_is_stratified_and_every_photo_is_in_one_part():
    split, remarks = split_of(many({"cat": 100, "dog": 50, "bird": 10}))
    assert counts_of(split, "val") == {"cat": 20, "dog": 10, "bird": 2} and remarks == []
    assert sorted(row.file for row in split.rows) == sorted(entry.photo.file for entry in many(counts_of_all(split)))


def counts_of_all(split):
    return dict(Counter(row.class_name for row in split.rows))


def test_the_seed_alone_decides_the_split_and_not_the_order_of_the_photos():
    photos = many({"cat": 40, "dog": 40})
    chosen = {seed: {row.file for row in split_of(photos, seed=seed)[0].part("val")} for seed in (0, 1)}
    assert chosen[0] != chosen[1]
    assert {row.file for row in split_of(photos[::-1])[0].part("val")} == chosen[0]


def test_another_class_changes_nothing_in_the_split_of_the_first():
    few = {row.file for row in split_of(many({"cat": 40, "dog": 40}))[0].part("val") if row.class_name == "cat"}
    more = split_of(many({"ant": 9, "cat": 40, "dog": 40}))[0].part("val")
    assert {row.file for row in more if row.class_name == "cat"} == few


@pytest.mark.parametrize("share", [0.001, 0.15, 0.5, 0.999])
def test_a_class_of_two_gives_one_photo_and_keeps_one(share):
    split, _ = split_of(many({"cat": 2, "dog": 2, "cow": 30}), share=share)
    assert counts_of(split, "val") | {"cow": 0} == {"cat": 1, "dog": 1, "cow": 0}
    assert counts_of(split, "train").keys() == {"cat", "dog", "cow"} and counts_of(split, "val")["cow"] >= 1


def test_a_class_with_one_photo_stays_in_training_with_a_warning():
    split, remarks = split_of(many({"cat": 5, "rare": 1, "rarer": 1}))
    assert counts_of(split, "train")["rare"] == 1 and "rare" not in counts_of(split, "val")
    assert remarks == ["classes with one photo; it stays in training and is never validated: rare, rarer"]


def test_a_class_missing_in_val_is_listed_in_a_warning():
    photos = [*many({"cat": 3, "dog": 3, "cow": 1}), photo("v", part="val", class_name="cat")]
    _, remarks = split_of(photos, has_validation=True)
    assert remarks == ["classes without validation photos, so their accuracy stays unknown: cow, dog"]


def test_a_class_in_val_that_has_no_training_photos_is_refused():
    photos = [*many({"cat": 3, "dog": 3}), photo("v", part="val", class_name="cow")]
    with pytest.raises(PhotosError, match="classes in val without training photos: cow"):
        split_of(photos, has_validation=True)


@pytest.mark.parametrize("seed", range(8))
def test_the_same_content_is_never_in_two_parts(seed):
    photos = many({"cat": 12, "dog": 12})
    photos += [photo(f"cat/copy{number}", f"cat/{number % 4}") for number in range(8)]
    photos += [photo("dog/like-a-cat", "cat/0")]
    split, _ = split_of(photos, seed=seed)
    parts = {}
    for row in split.rows:
        assert parts.setdefault(row.content_hash, row.part) == row.part, row
    assert counts_of(split, "val").keys() == {"cat", "dog"}


def test_two_copies_of_one_photo_stay_in_training_together():
    split, remarks = split_of([photo("rare/a", "same"), photo("rare/b", "same"), *many({"cat": 4})])
    assert counts_of(split, "train")["rare"] == 2
    assert remarks == ["classes without validation photos, so their accuracy stays unknown: rare"]


def leaking():
    return [
        *many({"cat": 4, "dog": 4}),
        photo("val/a", "cat/0", part="val", class_name="cat"),
        photo("test/b", "dog/1", part="test"),
        photo("val/dog", part="val", class_name="dog"),
    ]


def test_leaks_are_refused_each_with_both_names():
    with pytest.raises(PhotosError) as caught:
        split_of(leaking(), has_validation=True)
    text = str(caught.value)
    assert "2 training photos also in val or test" in text and "data.leaks=drop" in text
    assert "cat/0 is the same photo as val/a" in text and "dog/1 is the same photo as test/b" in text


def test_leaks_can_be_dropped_from_training_with_the_reason_in_the_split():
    split, remarks = split_of(leaking(), has_validation=True, leaks="drop")
    assert {row.file: row.reason for row in split.part("excluded")} == {
        "cat/0": "same photo as val/a",
        "dog/1": "same photo as test/b",
    }
    assert counts_of(split, "val") == {"cat": 1, "dog": 1} and len(split.part("test")) == 1
    assert remarks == ["2 training photos dropped: also in val or test"]


def test_leaks_can_be_allowed_with_a_warning():
    split, remarks = split_of(leaking(), has_validation=True, leaks="allow")
    assert len(split.part("train")) == 8 and "the accuracy is too high" in remarks[0]


@pytest.mark.parametrize("seed", range(10))
def test_a_training_photo_that_is_in_test_leaks_whatever_the_seed(seed):
    photos = [*many({"cat": 2, "dog": 2}), photo("test/b", "dog/1", part="test")]
    with pytest.raises(PhotosError, match="dog/1 is the same photo as test/b"):
        split_of(photos, seed=seed, share=0.5)
    split, _ = split_of(photos, seed=seed, share=0.5, leaks="drop")
    assert [row.file for row in split.part("excluded")] == ["dog/1"]


def test_a_class_that_loses_all_its_photos_is_named():
    with pytest.raises(PhotosError, match=r"without a training photo left \(unreadable or dropped\): cow"):
        split_of([*many({"cat": 3, "dog": 3}), photo("cow/1", reason="is empty")])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"cat": 5}, "at least 2 classes; there are 1 (cat)"),
        ({}, "at least 2 classes; there are 0"),
        ({"cat": 1, "dog": 1}, "no class has 2 photos"),
    ],
)
def test_too_little_to_learn_from_is_refused(counts, words):
    with pytest.raises(PhotosError) as caught:
        split_of(many(counts))
    assert words in str(caught.value)


def test_unreadable_photos_are_excluded_with_their_reason_but_stay_in_test():
    photos = [*many({"cat": 3, "dog": 3}), photo("cat/bad", reason="is empty")]
    split, _ = split_of([*photos, photo("test/bad", part="test", reason="is empty")])
    assert [(row.file, row.reason) for row in split.part("excluded")] == [("cat/bad", "is empty")]
    assert [row.file for row in split.part("test")] == ["test/bad"]


def test_folders_0_to_99_are_sorted_as_text_so_an_index_is_no_name():
    split, _ = split_of(many({str(number): 2 for number in range(100)}))
    assert split.classes[:4] == ["0", "1", "10", "11"] and split.classes.index("2") == 12


def test_a_split_survives_its_csv_with_odd_names(tmp_path):
    names = [
        "käse 🧀/a.jpg",
        "a\nb/c.jpg",
        'a,"b"/c.jpg',
        "-rf/x.jpg",
        r"caf\xe9.jpg",
        "a\rb.jpg",
        "a\r\nb",
        " x ",
        "'",
    ]
    rows = tuple(Row(name, name[:3], "train", "0" * 64, 'cut off, "so"\nto say') for name in names)
    write_split(tmp_path / "split.csv", Split(rows))
    assert read_split(tmp_path / "split.csv") == Split(rows)
    assert (tmp_path / "split.csv").read_bytes().startswith(b"file,class,part,content_hash,reason\n")


def test_a_whole_folder_survives_scan_inspect_split_and_csv(photos, tmp_path):
    root = photos({"cat": 4, "dog 🐕": 4})
    (root / "cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"no photo")
    seen = []
    inspected = inspect(scan(root).photos, 200, advance=seen.append)
    assert sum(seen) == 9 and all(entry.width == 40 and entry.height == 30 for entry in inspected if not entry.reason)
    split, _ = split_of(inspected)
    assert [(row.file, row.reason) for row in split.part("excluded")] == [
        (r"cat/caf\xe9.jpg", "is not an image that can be read")
    ]
    write_split(tmp_path / "split.csv", split)
    assert read_split(tmp_path / "split.csv").fingerprint() == split.fingerprint()


def test_the_fingerprint_tells_photos_classes_and_parts_but_not_where_they_lie():
    def fingerprint(*rows):
        return Split(tuple(Row(*row) for row in rows)).fingerprint()

    one = fingerprint(("a", "cat", "train", "1"), ("b", "cat", "val", "2"))
    assert fingerprint(("y", "cat", "val", "2"), ("x", "cat", "train", "1"), ("t", "", "test", "3")) == one
    assert fingerprint(("a", "cat", "val", "1"), ("b", "cat", "train", "2")) != one
    assert fingerprint(("a", "dog", "train", "1"), ("b", "cat", "val", "2")) != one
    assert fingerprint(("a", "cat", "train", "9"), ("b", "cat", "val", "2")) != one


HEADER = "file,class,part,content_hash,reason\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the first line must be file,class,part"),
        ("a,b\n", "the first line must be"),
        (HEADER + "a,cat,train,1,\nb,cat,trian,1,\n", "line 3 is damaged: b,cat,trian,1,"),
        (HEADER + "a,cat\n", "line 2 is damaged: a,cat"),
        (HEADER + '"a\nb",cat,train,1,\nc,cat\n', "line 4 is damaged: c,cat"),
        (HEADER + "a,cat,train,1,\na,cat,val,1,\n", "line 3 repeats a"),
        (HEADER + 'a,cat,train,1,"cut off\n', "is damaged (unexpected end of data)"),
    ],
)
def test_a_damaged_csv_is_told_with_its_line(tmp_path, content, words):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(UsageError) as caught:
        read_split(tmp_path / "split.csv")
    assert words in str(caught.value) and "split.csv: " in str(caught.value)


def test_a_field_of_megabytes_and_a_file_of_gigabytes_are_told(tmp_path):
    (tmp_path / "split.csv").write_text(HEADER + "a" * 200_000 + ",cat,train,1,\n")
    with pytest.raises(UsageError, match="line 2 is damaged"):
        read_split(tmp_path / "split.csv")
    os.truncate(tmp_path / "split.csv", 2**32)
    with pytest.raises(UsageError, match="at most 536,870,912 are read"):
        read_split(tmp_path / "split.csv")


def test_a_missing_or_binary_csv_is_told(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        read_split(tmp_path / "split.csv")
    (tmp_path / "split.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as CSV"):
        read_split(tmp_path / "split.csv")


def set_apart_class_by_class(rows, seed, share, together):
    """The files that are set apart, with all groups sorted and looked through for every class."""
    groups, chosen, taken = whole_groups(rows, together), set(), Counter()
    left = Counter(row.class_name for row in rows)
    wanted = {name: max(1, round(share * count)) if count > 1 else 0 for name, count in left.items()}

    def try_out(group, most):
        sizes = Counter(row.class_name for row in group)
        whole = all(left[name] > size and taken[name] + size <= most(name) for name, size in sizes.items())
        if group[0].file not in chosen and whole:
            taken.update(sizes)
            left.subtract(sizes)
            chosen.update(row.file for row in group)

    for name in sorted(wanted):
        own = [group for _, group in sorted(groups.items()) if any(row.class_name == name for row in group)]
        draw = np.random.default_rng([seed, int.from_bytes(sha256(name.encode()).digest()[:8])])
        shuffled = [own[place] for place in draw.permutation(len(own))]
        for group in shuffled:
            if taken[name] < wanted[name]:
                try_out(group, wanted.__getitem__)
        for group in sorted(shuffled, key=len):
            if taken[name] == 0 and wanted[name]:
                try_out(group, lambda _: math.inf)
    return chosen


@pytest.mark.parametrize("seed", range(12))
def test_the_split_is_that_of_all_groups_sorted_for_every_class(seed):
    draw = np.random.default_rng(seed)
    photos = many({f"class {number}": int(count) for number, count in enumerate(draw.integers(1, 30, 12))})
    files = [entry.photo.file for entry in photos]
    photos += [photo(f"copy/{place}", content=files[place], class_name="class 3") for place in range(0, len(files), 9)]
    groups = [draw.choice(files, draw.integers(2, 7), replace=False).tolist() for _ in range(12)]
    split, _ = make_split(
        photos, seed=seed, validation_share=0.2, has_validation=False, leaks="refuse", groups=groups
    )  # fmt: skip
    training = [Row(entry.photo.file, entry.photo.class_name, "train", entry.content_hash) for entry in photos]
    expected = set_apart_class_by_class(training, seed, 0.2, groups)
    assert {row.file for row in split.part("val")} == expected and len(expected) > 10


def test_the_groups_are_sorted_once_and_not_once_a_class(monkeypatch):
    sorted_for = []

    class Groups(dict):
        def items(self):
            sorted_for.append(len(self))
            return super().items()

    monkeypatch.setattr(splitting, "whole_groups", lambda *of: Groups(whole_groups(*of)))
    split_of(many({f"class {number}": 4 for number in range(50)}))
    assert sorted_for == [200]
