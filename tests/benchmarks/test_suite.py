"""The suite's shapes are what they say they are, and its table names what does not hold."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.test_accuracy import BENCHMARKS, SETTING, run


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.startswith(("accuracy", "suite"))]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve classes of ten and four photos, each of its own colour."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(12):
        for part, count in (("train", 10), ("val", 4)):
            place = folder / part / f"c{number:02}"
            place.mkdir(parents=True)
            for photo in range(count):
                colour = (20 * number, 25 * photo, 255 if part == "val" else 0)
                Image.new("RGB", (60, 40), colour).save(place / f"{part}-{photo}.jpg")
    return folder


def made(name, source, tmp_path, scale=1.0):
    import suite_shapes

    return suite_shapes.make(name, source, tmp_path, scale)


def counts(folder, part):
    return Counter(file.parent.name for file in (folder / part).glob("*/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scale", "classes", "train", "val"),
    [
        ("few", 0.3, 12, {3}, {3}),
        ("tiny", 0.1, 10, {3}, {3}),
        ("all", 1, 12, {10}, {4}),
        ("validation", 1, 12, {3}, {11}),
        ("report", 0.003, 12, {5}, {2}),
        ("small", 0.001, 12, {4, 5}, {2}),
        pytest.param("large", 0.1, 10, {3}, {2}, marks=pytest.mark.torture),
        ("imbalance", 1, 12, {10, 8, 6, 4, 3, 2, 1}, {4}),
        ("gray", 1, 12, {10}, {4}),
        ("look-alikes", 0.25, 12, {15}, {4}),
    ],
)
def test_each_shape_has_the_photos_that_it_says(source, tmp_path, name, scale, classes, train, val):
    folder = made(name, source, tmp_path, scale)
    for part, expected in (("train", train), ("val", val)):
        found = counts(folder, part)
        assert len(found) == classes and set(found.values()) == expected, (part, found)


def test_no_validation_photo_is_cut_out_of_a_training_photo(source, tmp_path):
    for name in ("report", "look-alikes"):
        folder = made(name, source, tmp_path, 0.003)
        for part, blue in (("train", 0), ("val", 255)):
            for file in (folder / part).glob("*/*"):
                with Image.open(file) as image:
                    assert abs(image.getpixel((5, 5))[2] - blue) < 10


def test_a_fifth_of_the_training_labels_is_wrong_and_no_other(source, tmp_path):
    folder = made("wrong-labels", source, tmp_path)
    files = list((folder / "train").glob("*/*"))
    wrong = [file for file in files if not file.name.startswith(file.parent.name)]
    assert (len(files), len(wrong)) == (120, 24) and set(counts(folder, "val").values()) == {4}


@pytest.mark.torture  # of a benchmark, and half a minute
def test_sizes_and_colours_are_those_of_the_shape(source, tmp_path):
    for name, scale, check in (
        ("small", 0.001, lambda image: image.size == (84, 84)),
        ("large", 0.1, lambda image: image.size == (4500, 3000)),
        ("gray", 1, lambda image: len({band.getpixel((5, 5)) for band in image.split()}) == 1),
        ("digits", 0.1, lambda image: image.size == (32, 32)),
    ):
        folder = made(name, source, tmp_path, scale)
        with Image.open(next((folder / "train").glob("*/*"))) as image:
            assert check(image), name


def test_a_shape_is_the_same_each_time_and_made_once(source, tmp_path):
    first, second = (made("tiny", source, tmp_path / place, 0.1) for place in "ab")
    files = [sorted(file.relative_to(folder) for file in folder.glob("*/*/*")) for folder in (first, second)]
    assert files[0] == files[1]
    (first / "train" / "mark").mkdir()
    assert made("tiny", source, tmp_path / "a", 0.1) == first and (first / "train" / "mark").is_dir()


def suite(folder, *runs, name="few-1"):
    lines = [{"kind": "setting", **SETTING}, *({"kind": "run", **one} for one in runs)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def taking(minutes, seconds_late, **about):
    return run(minutes=minutes, **about) | {"seconds_used": 60 * minutes + seconds_late}


def faults(folder):
    import accuracy_suite

    return [sorted(row.faults()) for row in accuracy_suite.rows(folder)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((80, 12), (80, 0), []),
        ((80, 13.1), (80, 0), ["late"]),
        ((60, 0), (90, 0), ["behind timm"]),
        ((60, 0), (90, 14), []),  # it did not keep its minutes
        ((80, 0), (81, 0), []),  # not shown
    ],
)
def test_a_cell_holds_in_time_and_not_behind_a_peer_that_kept_its_minutes(tmp_path, ours, theirs, expected):
    folder = suite(
        tmp_path, taking(1.0, ours[1], right=ours[0]), taking(1.0, theirs[1], right=theirs[0], method="timm")
    )
    assert faults(folder) == [expected]


def test_a_cell_that_is_worse_with_more_minutes_is_named(tmp_path):
    folder = suite(tmp_path, taking(1.0, 0, right=90), taking(2.0, 0, right=60), taking(5.0, 0, right=95))
    assert faults(folder) == [[], ["worse than with fewer minutes"], []]


def test_the_table_has_a_row_a_cell_and_counts_those_that_hold(tmp_path):
    import accuracy_suite

    suite(tmp_path, taking(1.0, 3, right=80), taking(1.0, 0, right=70, method="timm"))
    suite(tmp_path, taking(1.0, 30, right=80), name="digits-2")
    text = "\n".join(accuracy_suite.measured(tmp_path))
    assert "| few | 1 | 1 | 0.8000 | +3 s | 0.7000 in 1.00; +10.0 (" in text and "| not run | holds |" in text
    assert "| digits | 2 | 1 | 0.8000 | +30 s | not run | not run | late |" in text
    assert "1 of 1 cells with a peer hold" in text and "Of 1 without a peer, 0 ended in time" in text
    assert "- `digits`: handwritten digits" in text


def test_without_a_result_there_is_no_table(tmp_path):
    import accuracy_suite

    with pytest.raises(SystemExit, match="no finished runs"):
        accuracy_suite.measured(Path(tmp_path))
