"""How often a training opens each photo."""

import os
import sys
from collections import Counter

import pytest

from fieldguide.data.augment import fused
from fieldguide.data.read import cache as caching
from tests.commands.by_the_report import train
from tests.commands.test_train import history_without_times, same_weights

COUNTING: list[Counter[str]] = []  # an audit hook cannot be taken away again, so it looks here
HOOKED: list[bool] = []
PROBE_AND_STEPS = (
    "model.head=linear",
    "training.phases=[{method: probe, augmentation: none}, {augmentation: mild, max_epochs: 2}]",
    "training.rounds=0",
    "data.test_size_px=auto",
    "data.test_crop_share=auto",
)


def _count(event, arguments):
    if COUNTING and event == "open" and isinstance(arguments[0], str | os.PathLike):
        path = os.fspath(arguments[0])
        if path.endswith(".png"):
            COUNTING[-1][path] += 1


@pytest.fixture
def opens(tmp_path, monkeypatch):
    """`opens(folder)`: how often each of its photos was opened, by part, since the test began."""
    if not HOOKED:
        HOOKED.append(True)
        sys.addaudithook(_count)
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "cache"))
    counts: Counter[str] = Counter()
    COUNTING.append(counts)

    def told(folder):
        return {
            part: Counter(counts[str(path)] for path in (folder / part).rglob("*.png")) for part in ("train", "val")
        }

    yield told
    COUNTING.remove(counts)


@pytest.mark.slow
@pytest.mark.skipif(not fused.is_installed(), reason="OpenCV is not installed")
def test_a_fast_training_opens_each_photo_once_and_one_without_a_cache_gives_the_same(
    photos, small, tmp_path, opens, monkeypatch
):
    settings = (*(one for one in small if "phases" not in one and "rounds" not in one), *PROBE_AND_STEPS)
    settings = (*settings, "execution=fast", "augmentation.engine=null")
    first = train(photos, output=tmp_path / "first", overrides=settings, quiet=True)
    assert len(first.result["test_time"]["tried"]) > 2
    assert opens(photos) == {"train": {1: 37}, "val": {1: 12}}
    train(photos, output=tmp_path / "second", overrides=settings, quiet=True)
    assert opens(photos) == {"train": {2: 37}, "val": {2: 12}}
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("FIELDGUIDE_CACHE_GB", "0")
    monkeypatch.setattr("fieldguide.commands.trial.prepare.MOST_KEPT_BYTES", 0)
    third = train(photos, output=tmp_path / "third", overrides=settings, quiet=True)
    assert min(opens(photos)["val"]) > 10
    assert same_weights(first.path, third.path)
    assert history_without_times(first.path) == history_without_times(third.path)
    for name in ("validation", "test_time", "calibration"):
        assert first.result[name] == third.result[name]
    galleries = [{p.name: p.read_bytes() for p in run.path.glob("gallery/*")} for run in (first, third)]
    assert galleries[0] == galleries[1] and len(galleries[0]) > 1


def test_an_exact_training_opens_each_photo_once_before_its_first_epoch_and_once_in_each(
    photos, small, tmp_path, opens
):
    settings = (*small, "training.rounds=0", "training.phases.0.max_epochs=1")
    done = train(photos, output=tmp_path / "run", overrides=settings, quiet=True)
    assert opens(photos)["train"] == {1 + done.result["epochs"]: 37}


@pytest.mark.slow
def test_a_validation_photo_too_large_for_the_cache_is_read_from_its_file_with_the_same_figures(
    photos, small, tmp_path, opens, monkeypatch
):
    settings = (*small, "execution=fast", "training.rounds=0", "training.phases.0.max_epochs=1")
    first = train(photos, output=tmp_path / "first", overrides=settings, quiet=True)
    assert opens(photos)["val"] == {1: 12}
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(caching, "MOST_WHOLE_BYTES", 40 * 30 * 3 - 1)
    second = train(photos, output=tmp_path / "second", overrides=settings, quiet=True)
    assert min(opens(photos)["val"]) > 3
    assert first.result["validation"] == second.result["validation"]
    assert history_without_times(first.path) == history_without_times(second.path)
