"""The classes of a flat test folder: each label is one photo's."""

import pytest

from fieldguide.commands.judging.labels import with_labels
from fieldguide.data.look.scan import scan
from fieldguide.errors import UsageError


@pytest.fixture
def folder(tmp_path, make_photos):
    """Two photos of one name in two folders that are no classes."""
    return scan(make_photos(tmp_path, {"train/a": 1, "train/b": 1, "test/s1": 1, "test/s2": 1}))


def labelled(folder, labels):
    path = folder.root / "labels.csv"
    path.write_text("image,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    found, _ = with_labels(folder, path)
    return {photo.file: photo.class_name for photo in found.part("test")}


@pytest.mark.parametrize("name", ["000.png", "000"])
def test_a_label_that_could_be_two_photos_is_refused_with_both(folder, name):
    with pytest.raises(
        UsageError,
        match=rf"labels\.csv: 1 name fit more than one photo:\n  line 2: {name} could be test/s1/000.png or test/s2",
    ):
        labelled(folder, {name: "a"})


def test_names_below_test_tell_photos_apart_and_one_that_is_left_may_have_the_short_name(folder):
    whole = {"s1/000.png": "a", "s2/000.png": "b"}
    assert labelled(folder, whole) == {f"test/{name}": label for name, label in whole.items()}
    assert labelled(folder, {"s1/000.png": "a", "000": "b"}) == {f"test/{name}": label for name, label in whole.items()}
