"""What is told of duplicates, from photos that only have names."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fieldguide.data.look.duplicates import Duplicates, duplicate_findings
from fieldguide.data.look.scan import Photo

PARTS = ("train", "val", "test")


def photo(file):
    """A photo by its name, `part/class/name`, or `test/name` without a class."""
    part, _, rest = file.partition("/")
    return Photo(Path(file), file, part, rest.rpartition("/")[0] or None)


def photos(*files):
    return tuple(map(photo, files))


def found(same=(), near=(), look_alikes=()):
    return Duplicates(tuple(same), tuple(near), (), tuple(look_alikes))


def told(duplicates):
    return [(finding.kind, finding.part, finding.files) for finding in duplicate_findings(duplicates)]


def every_pair(first, second):
    """The pair that harms most and how, from a list of all of them."""

    def harm(pair):
        names = [one.class_name for one in pair]
        return None not in names and names[0] != names[1], pair[0].part != pair[1].part

    worst = max(((a, b) for a in first for b in second if a is not b), key=harm)
    labels, parts = harm(worst)
    return worst, "_two_labels" if labels else "_across_parts" if parts else ""


@pytest.mark.parametrize("seed", range(20))
def test_what_is_told_of_copies_and_of_pairs_is_what_a_list_of_all_pairs_tells(seed):
    draw, number = np.random.default_rng(seed), itertools.count()
    names = [f"{part}/{name}" for part in PARTS for name in ("ant/", "bee/")] + ["test/"]

    def content():
        among = names[: draw.integers(1, len(names) + 1)]
        return photos(*(f"{draw.choice(among)}{next(number)}.jpg" for _ in range(draw.integers(2, 6))))

    same, near = [content() for _ in range(8)], [(content(), content(), 0.1) for _ in range(8)]
    findings = list(duplicate_findings(found(same, near)))
    for copies, finding in zip(same, findings[:8], strict=True):
        assert finding.kind == f"same_photo{every_pair(copies, copies)[1]}"
        assert finding.files == tuple(one.file for one in copies)
    for (first, second, _), finding in zip(near, findings[8:], strict=True):
        (a, b), trouble = every_pair(first, second)
        assert finding.kind == f"near_duplicate{trouble}" and finding.files[:2] == (a.file, b.file)
        assert sorted(finding.files) == sorted(one.file for one in (*first, *second))


def test_thousands_of_copies_of_one_photo_take_no_more_memory_than_their_names():
    copies = photos(*(f"train/ant/{number}.jpg" for number in range(1000)), "val/ant/x.jpg")
    others = photos(*(f"train/ant/other{number}.jpg" for number in range(1000)))
    tracemalloc.start()
    try:
        findings = told(found([copies, others], [(copies, others, 0.1)]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [kind for kind, _, _ in findings] == [
        "same_photo_across_parts", "same_photo", "near_duplicate_across_parts",
    ]  # fmt: skip
    assert findings[2][2][:2] == ("val/ant/x.jpg", "train/ant/other0.jpg")
    assert peak < 2_000_000  # all pairs of them would be a hundred times as much


class Counted(tuple):
    """A tuple that counts how often it is gone through."""

    reads = 0

    def __iter__(self):
        self.reads += 1
        return super().__iter__()


def test_however_many_chains_there_are_the_pairs_are_gone_through_once():
    chains = [photos(*(f"train/ant/{name}{number}.jpg" for number in range(4))) for name in "abc"]
    chains[1] = (*chains[1], photo("val/ant/b4.jpg"))
    near = Counted(((one,), (other,), 0.1) for chain in chains for one, other in itertools.pairwise(chain))
    alone = (photos("train/ant/x.jpg"), photos("train/ant/y.jpg"), 0.1)
    duplicates = Duplicates((), Counted((*near, alone)), (), tuple(chains))
    assert told(duplicates) == [
        ("near_duplicate", "train", ("train/ant/x.jpg", "train/ant/y.jpg")),
        ("look_alikes", "train", tuple(one.file for one in chains[0])),
        ("look_alikes", "train, val", tuple(one.file for one in chains[1])),
        ("near_duplicate_across_parts", "train, val", ("train/ant/b3.jpg", "val/ant/b4.jpg")),
        ("look_alikes", "train", tuple(one.file for one in chains[2])),
    ]
    assert duplicates.near.reads == 1


def test_a_chain_tells_which_parts_its_pairs_are_of_and_not_those_of_the_chain():
    chain = photos("val/ant/a.jpg", "train/ant/b.jpg", "train/ant/c.jpg", "test/ant/d.jpg", "val/ant/e.jpg")
    pairs = [((one,), (other,), 0.1) for one, other in itertools.pairwise(chain[:4])] + [
        ((chain[4],), (chain[1],), 0.1)
    ]
    assert told(found(near=pairs, look_alikes=[chain]))[1:] == [
        ("near_duplicate_across_parts", "train, val", ("val/ant/a.jpg", "train/ant/b.jpg", "val/ant/e.jpg")),
        ("near_duplicate_across_parts", "train, test", ("train/ant/c.jpg", "test/ant/d.jpg")),
    ]
    both = [*pairs, ((chain[3],), (chain[4],), 0.1)]
    assert told(found(near=both, look_alikes=[chain]))[-1][:2] == ("near_duplicate_across_parts", "val, test")


def test_pairs_across_parts_are_torn_in_a_chain_and_out_of_it():
    chain = photos("train/ant/a.jpg", "train/ant/b.jpg", "val/ant/c.jpg")
    pairs = [((one,), (other,), 0.1) for one, other in itertools.pairwise(chain)]
    copies = (photos("train/bee/x.jpg", "train/bee/y.jpg"), photos("test/z.jpg"), 0.1)
    duplicates = found(near=[*pairs, copies], look_alikes=[chain])
    assert duplicates.torn == [
        ["train/ant/b.jpg", "val/ant/c.jpg"],
        ["train/bee/x.jpg", "train/bee/y.jpg", "test/z.jpg"],
    ]
