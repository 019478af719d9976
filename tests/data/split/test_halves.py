from collections import Counter

import pytest

from fieldguide.data.split.halves import halves
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import PhotosError


def rows(part, counts):
    places = [(name, number) for name, count in counts.items() for number in range(count)]
    return [Row(f"{part}/{name}/{n}.png", name, part, f"{part}{name}{n:03d}") for name, n in places]


def test_each_class_is_halved_and_groups_stay_whole():
    val = rows("val", {"a": 10, "b": 5, "c": 1})
    split = Split((*rows("train", {"a": 3, "b": 3, "c": 3}), *val))
    burst = [f"val/a/{n}.png" for n in range(4)]
    kept, judging = halves(split, [burst])
    assert {*kept.rows, *judging} == {*split.rows}
    of_kept, of_judging = Counter(r.class_name for r in kept.part("val")), Counter(r.class_name for r in judging)
    assert of_kept["a"] == of_judging["a"] == 5 and {of_kept["b"], of_judging["b"]} == {2, 3}
    assert abs(len(kept.part("val")) - len(judging)) <= 2
    assert len({file in {row.file for row in judging} for file in burst}) == 1
    assert kept.part("train") == split.part("train")
    assert halves(Split(split.rows[::-1]), [burst])[1] == judging[::-1]


def test_one_photo_cannot_be_halved():
    with pytest.raises(PhotosError, match="two validation photos or more"):
        halves(Split((*rows("train", {"a": 3}), *rows("val", {"a": 1}))))
    with pytest.raises(PhotosError, match="near duplicates"):
        halves(Split(tuple(rows("val", {"a": 2}))), [["val/a/0.png", "val/a/1.png"]])
