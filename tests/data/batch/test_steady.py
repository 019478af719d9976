import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldguide.data.augment.reference import reference
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.steady import steady
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.data.read import content
from fieldguide.data.read.decode import UnreadableError, read_photo
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.errors import MachineError
from fieldguide.settings import Policy


@pytest.fixture
def make_batches(tmp_path, make_photos):
    root = make_photos(tmp_path / "photos", {"a": 12, "b": 12})
    photos = [LabelledPhoto(path, f"{path.parent.name}/{path.name}", 0) for path in sorted(root.rglob("*.png"))]
    augment = reference(Policy(), Preprocessing(32, 36, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)))

    def make(workers):
        return TrainingBatches(photos, {"standard": augment}, seed=0, batch_size=4, reading=1, workers=workers)

    return make


def test_an_epoch_can_begin_at_any_of_its_steps(make_batches):
    whole = list(make_batches(0).epoch("standard", 3))
    for first in (0, 2, 6):
        rest = list(make_batches(0).epoch("standard", 3, first))
        assert len(rest) == 6 - first
        for one, other in zip(whole[first:], rest, strict=True):
            assert one.files == other.files and torch.equal(one.images, other.images)


def test_a_worker_that_dies_is_replaced_and_no_photo_is_lost_or_changed(make_batches):
    batches, told, seen = make_batches(2), [], []
    expected = list(make_batches(0).epoch("standard", 1))
    for batch in steady(batches, "standard", 1, 0, told.append):
        if not seen:
            for worker in batches._loader._iterator._workers:
                os.kill(worker.pid, signal.SIGKILL)
        seen.append(batch)
    assert len(told) == 1 and "died in epoch 1" in told[0] and "new workers continue" in told[0]
    assert [batch.files for batch in seen] == [batch.files for batch in expected]
    assert all(torch.equal(one.images, other.images) for one, other in zip(seen, expected, strict=True))


def test_workers_that_die_again_at_the_same_batch_end_the_training():
    class Dying:
        def epoch(self, augmentation, epoch, first_step=0, **_):
            yield "batch"
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

        def restart(self):
            pass

    class AlwaysDying(Dying):
        def epoch(self, augmentation, epoch, first_step=0, **_):
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
            yield

    with pytest.raises(MachineError, match=r"died in epoch 2 at step 4 .*, twice at this step"):
        list(steady(AlwaysDying(), "standard", 2, 3, lambda text: None))
    steps = steady(Dying(), "standard", 2, 0, lambda text: None)
    assert [next(steps) for _ in range(5)] == ["batch"] * 5


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError(), FileNotFoundError()])
def test_a_worker_that_dies_before_its_batch_was_fetched_is_replaced_too(error):
    class Dying:
        restarts = 0

        def epoch(self, augmentation, epoch, first_step=0, **_):
            if first_step == 0:
                yield "first"
                raise error
            yield "second"

        def restart(self):
            self.restarts += 1

    dying, told = Dying(), []
    assert list(steady(dying, "standard", 2, 0, told.append)) == ["first", "second"]
    assert dying.restarts == 1 and len(told) == 1 and "died in epoch 2 at step 2" in told[0]


def test_another_mistake_in_the_workers_is_no_death():
    class Wrong:
        def epoch(self, augmentation, epoch, first_step=0, **_):
            raise RuntimeError("a mistake of the program")
            yield

        def restart(self):
            pytest.fail("restarted")

    with pytest.raises(RuntimeError, match="a mistake of the program"):
        list(steady(Wrong(), "standard", 1, 0, lambda text: None))


@pytest.mark.parametrize(("number", "reads"), [(errno.EIO, 4), (errno.ESTALE, 4), (errno.EACCES, 1), (errno.ENOENT, 1)])
def test_only_errors_that_may_pass_are_tried_again(monkeypatch, tmp_path, number, reads):
    tried, slept = [], []

    def failing(self):
        tried.append(self)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", failing)
    monkeypatch.setattr(content.time, "sleep", slept.append)
    with pytest.raises(UnreadableError):
        read_photo(tmp_path / "x.png")
    assert len(tried) == reads and len(slept) == reads - 1 and sum(slept) < 3


def test_a_photo_that_can_be_read_again_is_read(monkeypatch, tmp_path, make_photos):
    photo = make_photos(tmp_path, {"a": 1}) / "a/000.png"
    expected, real, tried = np.asarray(read_photo(photo)), Path.stat, []

    def failing_once(self):
        tried.append(self)
        if len(tried) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(self)

    monkeypatch.setattr(Path, "stat", failing_once)
    monkeypatch.setattr(content.time, "sleep", lambda seconds: None)
    assert np.array_equal(np.asarray(read_photo(photo)), expected) and len(tried) >= 2
