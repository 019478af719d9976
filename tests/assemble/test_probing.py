"""The features of a probe: all photos in each view, as far as the time goes."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from fieldguide.assemble.probing import _features, _numbers

PHOTOS = ("a", "b", "c", "d", "e")


def features(views, answers):
    """What `_features` makes of five photos in batches of two, and what it asked."""
    asked, answers = [], iter(answers)

    def batches(stage, epoch, first_step):
        for start in (0, 2, 4):
            files = PHOTOS[start : start + 2]
            yield SimpleNamespace(images=torch.ones(len(files), 3), labels=torch.zeros(len(files)), files=files)

    def goes(photos, is_more):
        asked.append((photos, is_more))
        return next(answers)

    model, stage = SimpleNamespace(backbone=lambda images: images), SimpleNamespace(views=views)
    return _features(model, stage, 1, goes, batches, 3, contextlib.nullcontext), asked


def test_it_asks_after_each_batch_and_says_where_none_is_to_come():
    (rows, labels, files, views), asked = features(2, ["on"] * 6)
    assert (len(rows), len(labels), files, views) == (10, 10, list(PHOTOS), 2)
    assert asked == [(2, True), (2, True), (1, True), (2, True), (2, True), (1, False)]


@pytest.mark.parametrize(
    ("done", "rows", "views"),
    [(2, 4, 1), (3, 5, 1), (5, 5, 1), (6, 10, 2), (8, 10, 2)],  # batches of three views, three a view
)
def test_where_the_time_is_up_a_view_that_is_whole_stays(done, rows, views):
    found, asked = features(3, ["on"] * (done - 1) + ["enough"])
    assert (len(found[0]), found[3], len(asked)) == (rows, views, done)


def test_told_to_stop_there_are_none():
    assert features(1, ["on", "stop"])[0] is None


def test_files_of_one_group_share_a_number():
    numbers = _numbers(list(PHOTOS), {"b": "b", "d": "b"})
    assert numbers[1] == numbers[3] and len(set(numbers.tolist())) == 4
    assert _numbers(list(PHOTOS), {}) is None
