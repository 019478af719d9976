"""From files to batches by threads and a cache: the same whatever the cache holds, and a training knows its waiting."""

import importlib.util

import numpy as np
import pytest
import torch

from fieldguide.data.augment import fused
from fieldguide.data.augment.reference import photo_seed
from fieldguide.data.batch import waiting
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.feed import can_fuse, make_feed
from fieldguide.data.batch.fused_batches import FusedBatches
from fieldguide.data.batch.waiting import Waiting
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.data.look.scan import scan
from fieldguide.data.read.cache import Cache
from fieldguide.data.read.decode import UnreadableError
from fieldguide.data.read.inputs import KeptInputs
from fieldguide.data.read.prefetch import prefetched
from fieldguide.errors import PhotosError, UsageError
from fieldguide.storage import file_digest
from tests.data.augment.test_reference import NOTHING, PREPROCESSING, STANDARD
from tests.data.batch.test_batches import image_of, same, taken

CPU = torch.device("cpu")
PLENTY = 10**9
needs_opencv = pytest.mark.skipif(not fused.is_installed(), reason="OpenCV is not installed")


def feed_of(root, cache, *, seed=0, batch_size=4, workers=2, engine="fused", side=40):
    found = scan(root)
    photos = [
        LabelledPhoto(photo.path, photo.file, found.classes.index(photo.class_name), file_digest(photo.path))
        for photo in found.photos
    ]
    return make_feed(
        photos,
        {"standard": STANDARD, "none": NOTHING},
        PREPROCESSING,
        engine=engine,
        cache_side_px=side,
        seed=seed,
        batch_size=batch_size,
        reading=200,
        device=CPU,
        workers=workers,
        cache=cache,
    )


@needs_opencv
def test_fused_batches_depend_on_neither_threads_nor_cache_nor_batch(photos, tmp_path):
    root = photos({"cat": 12, "dog": 11})
    full, part, none = (Cache(tmp_path / str(most), most) for most in (PLENTY, 20_000, 10))
    alone = feed_of(root, full, workers=1)
    expected = [taken(alone.batches, epoch=epoch) for epoch in (1, 2)]
    for cache in (full, part, none):
        for workers in (1, 3, None):
            feed = feed_of(root, cache, workers=workers)
            assert all(same(taken(feed.batches, epoch=epoch), expected[epoch - 1]) for epoch in (1, 2))

    def by_file(batches):
        return {file: image for images, _, files in taken(batches) for file, image in zip(files, images, strict=True)}

    small, large = (
        by_file(feed_of(root, full, batch_size=2).batches),
        by_file(feed_of(root, full, batch_size=23).batches),
    )
    assert len(small) == 23 and all(torch.equal(small[file], large[file]) for file in small)


@needs_opencv
def test_a_fused_batch_holds_each_photo_augmented_by_its_own_seed(photos, tmp_path):
    feed = feed_of(photos({"cat": 7, "dog": 6}), Cache(tmp_path / "cache", PLENTY), batch_size=5)
    assert isinstance(feed.batches, FusedBatches)
    seen = {}
    for batch in feed.batches.epoch("standard", 3):
        assert batch.images.dtype == torch.uint8 and batch.images.is_contiguous(memory_format=torch.channels_last)
        for image, label, file in zip(batch.images, batch.labels, batch.files, strict=True):
            assert int(label) == file.startswith("dog")
            seen[file] = image
    assert len(seen) == 13
    augment, output = fused.fused(STANDARD, PREPROCESSING), np.empty((24, 24, 3), np.uint8)
    for photo in feed.batches.photos:
        augment(feed.pixels.read(photo), photo_seed(0, 3, photo.file), output)
        assert np.array_equal(seen[photo.file].permute(1, 2, 0).numpy(), output)


@needs_opencv
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_an_epoch_can_begin_at_a_later_step_and_reads_no_photo_before_it(photos, tmp_path, engine):
    root = photos({"cat": 7, "dog": 6})
    feed = feed_of(root, Cache(tmp_path / "cache", 10), engine=engine, workers=0)
    whole = taken(feed.batches, epoch=2)
    for file in (file for _, _, files in whole[:2] for file in files):
        (root / file).unlink()
    for first_step in (2, 3, 4):
        rest = [(b.images, b.labels, b.files) for b in feed.batches.epoch("standard", 2, first_step=first_step)]
        assert same(rest, whole[first_step:])


@needs_opencv
def test_a_photo_that_breaks_while_training_ends_it_and_is_named_unless_it_is_cached(photos, tmp_path):
    root = photos({"cat": 3, "dog": 3})
    uncached, cached = feed_of(root, Cache(tmp_path / "a", 10)), feed_of(root, Cache(tmp_path / "b", PLENTY))
    expected = taken(cached.batches)
    (root / "dog/001.png").write_bytes((root / "dog/001.png").read_bytes()[:200])
    with pytest.raises(PhotosError, match=r"dog/001\.png has changed since the training began"):
        taken(uncached.batches)
    (root / "dog/001.png").unlink()
    with pytest.raises(PhotosError, match=r"dog/001\.png does not exist; it was readable when the training began"):
        taken(uncached.batches)
    assert same(taken(cached.batches), expected)


@needs_opencv
def test_fused_batches_touch_no_generator_and_leave_opencvs_threads_as_they_were(photos, tmp_path):
    import cv2

    feed = feed_of(photos({"cat": 5, "dog": 5}), Cache(tmp_path / "cache", PLENTY))
    state, threads = torch.get_rng_state(), cv2.getNumThreads()
    for _ in feed.batches.epoch("standard", 1):
        break  # given up
    taken(feed.batches)
    assert torch.equal(torch.get_rng_state(), state) and cv2.getNumThreads() == threads


def test_the_reference_reads_no_cache(photos, tmp_path):
    feed = feed_of(photos({"cat": 5, "dog": 5}), Cache(tmp_path / "cache", PLENTY), engine="reference", workers=0)
    assert isinstance(feed.batches, TrainingBatches) and feed.pixels is None and not (tmp_path / "cache").exists()


def test_without_opencv_a_gpu_can_fuse_and_a_cpu_says_what_to_do(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not can_fuse(CPU) and can_fuse(torch.device("cuda:0"))
    with pytest.raises(UsageError, match=r"install opencv-python-headless, or set augmentation\.engine to reference"):
        feed_of(photos({"cat": 2, "dog": 2}), Cache(tmp_path / "cache", PLENTY))


@needs_opencv
def test_what_the_cache_has_no_room_for_is_said_before_and_advised_after(photos, tmp_path):
    root = photos({"cat": 5, "dog": 5})
    full, none = feed_of(root, Cache(tmp_path / "a", PLENTY)), feed_of(root, Cache(tmp_path / "b", 10))
    assert full.remarks == () and "all photos are cached" in full.waiting.advice
    (remark,) = none.remarks
    assert "10 of 10 photos not in the cache" in remark and "FIELDGUIDE_CACHE_GB" in remark
    assert "see fieldguide cache" in none.waiting.advice
    off = feed_of(root, Cache(tmp_path / "c", PLENTY), side=0)
    assert off.remarks == () and "set data.cache_side_px to null" in off.waiting.advice
    assert full.remarks_after() == []
    full.pixels.damaged.add("ab")
    assert full.remarks_after()[0].startswith("the cache had 1 damaged photo")


def test_waiting_is_what_the_loop_waits_and_not_what_it_works(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: now[0])

    def batches():
        for number in range(4):
            now[0] += 1
            yield number

    counted = Waiting("buy a larger house")
    assert counted.share == 0
    for epoch in range(2):
        for expected, number in enumerate(counted.over(batches())):
            assert number == expected
            now[0] += 3
            if epoch == 1 and number == 1:
                break  # given up; what was waited counts
    assert counted.seconds_waited == 6 and counted.seconds == 24
    assert counted.sentence() == "waited for data 25.0 %: buy a larger house"
    counted.seconds = 600
    assert counted.sentence() == "waited for data 1.0 %"


def test_inputs_are_loaded_once_where_they_fit_and_each_time_where_not():
    loads = []

    def load(number):
        loads.append(number)
        return image_of(number)

    kept = KeptInputs(range(10), load, 4, most_bytes=10 * 12)
    first, second = list(kept), list(kept)
    assert len(loads) == 10 and all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert [inputs.sources for inputs in second] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    large = KeptInputs(range(10), load, 4, most_bytes=10 * 12 - 1)
    assert len(list(large)) == len(list(large)) == 3 and len(loads) == 30


def test_inputs_that_were_not_gone_through_or_not_readable_are_not_kept():
    loads = []

    def load(number):
        loads.append(number)
        if number == 3 and len(loads) < 10:
            raise UnreadableError("is asleep")
        return image_of(number)

    kept = KeptInputs(range(5), load, 2)
    for _ in kept:
        break
    list(kept)
    assert [inputs.reasons for inputs in kept][1] == ("", "") and len(loads) >= 10
    count = len(loads)
    list(kept)
    assert len(loads) == count


def test_prefetched_work_comes_in_order_and_a_mistake_in_it_is_raised():
    assert list(prefetched(range(50), lambda number: number**2, 3, 5)) == [number**2 for number in range(50)]

    def fails(number):
        return 1 / (3 - number)

    with pytest.raises(ZeroDivisionError):
        list(prefetched(range(50), fails, 2, 4))
    taken_tasks = []

    def tasks():
        for number in range(1_000):
            taken_tasks.append(number)
            yield number

    work = prefetched(tasks(), lambda number: number, 2, 4)
    next(work)
    work.close()
    assert len(taken_tasks) <= 5


def test_waiting_goes_on_in_another_process_where_it_was_saved_in_mid_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: now[0])

    def batches():
        for number in range(2):
            now[0] += 1
            yield number

    first, second, saved = Waiting(), Waiting(), []
    for _ in first.over(batches()):
        saved = first.told()
        now[0] += 9
    assert saved == [2, 11]  # after the second batch came, before its step
    second.go_on(saved)
    for _ in second.over(batches()):
        now[0] += 9
    assert second.told() == [4, 31] and first.told() == [2, 20]
