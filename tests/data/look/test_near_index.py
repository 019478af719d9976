import numpy as np
import pytest

from fieldguide.data.look import looked_at, near
from fieldguide.data.look.facts import Print, facts_of
from fieldguide.data.look.near import near_pairs
from fieldguide.data.look.near_index import RoughIndex, best_by_lists
from fieldguide.data.look.scan import Photo
from tests.conftest import write_photo

EVERY = np.ones((1, 2_000), np.bool_)


def looks(count, copies, noise=0.15, seed=0):
    """(photos, 64) looks of length 1, of which the last `copies` are nearly those of the first."""
    draw = np.random.default_rng(seed)
    rough = draw.normal(size=(count, 64)).astype(np.float32)
    rough[-copies:] = rough[:copies] + noise * draw.normal(size=(copies, 64)).astype(np.float32)
    return rough / np.linalg.norm(rough, axis=1, keepdims=True)


def always(first, second):
    return np.ones(len(first), np.bool_)


def test_nearly_equal_looks_find_each_other_though_few_are_compared():
    rough, compared = looks(2_000, 200), []

    def possible(first, second):
        compared.append(len(first))
        return always(first, second)

    index = RoughIndex(rough)
    seen = sum(len(rows) * len(others) for block in index.blocks() for rows, others in block)
    assert seen < 0.5 * 2_000**2
    pairs = best_by_lists(rough, EVERY, possible, 0.7, 8, lambda: False)
    found = {tuple(sorted(pair)) for pair in pairs.tolist()}
    assert {(place, 1_800 + place) for place in range(200)} <= found
    assert all(rough[a] @ rough[b] >= 0.7 for a, b in found) and sum(compared) < 5_000
    again = best_by_lists(rough, EVERY, always, 0.7, 8, lambda: False)
    assert np.array_equal(pairs, again)


def test_each_photo_keeps_its_best_ones_of_each_part():
    draw = np.random.default_rng(1)
    one = draw.normal(size=64)
    rough = (one + 0.2 * draw.normal(size=(60, 64))).astype(np.float32)
    rough /= np.linalg.norm(rough, axis=1, keepdims=True)
    of_part = np.zeros((2, 60), np.bool_)
    of_part[0, :50] = of_part[1, 50:] = True
    pairs = best_by_lists(rough, of_part, always, 0.0, 3, lambda: False)
    for row in range(60):
        mine = pairs[pairs[:, 0] == row][:, 1]
        assert (mine < 50).sum() <= 3 and (mine >= 50).sum() <= 3 and row not in mine
    one = int(pairs[0, 0])
    best = [other for other in np.argsort(-(rough @ rough[one])) if other != one and other < 50][:3]
    assert set(best) >= set(pairs[(pairs[:, 0] == one) & (pairs[:, 1] < 50)][:, 1])


def test_late_it_ends_with_what_it_has(monkeypatch):
    monkeypatch.setattr("fieldguide.data.look.near_index.ROWS_AT_ONCE", 100)
    rough = looks(2_000, 200)
    whole = best_by_lists(rough, EVERY, always, 0.7, 8, lambda: False)
    some = best_by_lists(rough, EVERY, always, 0.7, 8, lambda: True)
    assert 0 < len(some) < len(whole)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Facts of 120 photos, of which the last 20 are copies, encoded again, of the first."""
    from PIL import Image

    folder, found = tmp_path_factory.mktemp("near"), []
    for number in range(120):
        path = folder / f"{number:03d}.jpg"
        if number < 100:
            write_photo(path, number % 7, number, (120, 96))
        else:
            Image.open(folder / f"{number - 100:03d}.jpg").save(path, quality=60)
        found.append(facts_of(Photo(path, path.name, "train", "a")))
    return found


def test_many_photos_give_the_pairs_of_few(facts, monkeypatch):
    prints, aspects = [entry.print for entry in facts], [entry.width / entry.height for entry in facts]
    exact = near_pairs(prints, aspects)
    assert {(pair.first, pair.second) for pair in exact} >= {(n, 100 + n) for n in range(20)}
    monkeypatch.setattr(near, "MOST_COMPARED", 10)
    monkeypatch.setattr(near, "_best_of_block", lambda *_: pytest.fail("each was compared with each"))
    assert near_pairs(prints, aspects) == exact


def test_prints_of_many_lie_in_a_file_and_are_the_same(facts, monkeypatch):
    monkeypatch.setattr(looked_at, "FEW", 3)
    kept = looked_at.PrintFile(len(facts))
    for place, entry in enumerate(facts):
        there = kept.keep(place, entry).print
        assert isinstance(there, Print) and there.phash == entry.print.phash and there.is_flat == entry.print.is_flat
        assert np.array_equal(there.gray, entry.print.gray) and np.array_equal(there.colour, entry.print.colour)
        assert there.gray.base is not None and type(there.gray) is np.ndarray
    assert kept.keep(0, facts_of(Photo(facts[0].photo.path.with_name("none.jpg"), "x", "train", "a"))).print is None

    def refuse(*_):
        raise OSError("no space")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    assert looked_at.PrintFile(len(facts)).keep(0, facts[0]) is facts[0]
