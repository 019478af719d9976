"""A training with fused augmentations from the cache, as a user runs it."""

import gc
import json
import signal

import numpy as np
import pytest

from fieldguide import UsageError, experiment, resume
from fieldguide.cli import app
from fieldguide.commands.cache import cache
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.data.augment import fused
from fieldguide.data.read.pack import Pack, write_pack
from fieldguide.deploy.choice import Kept, Speed, Speeds
from fieldguide.errors import FieldguideError
from fieldguide.recipe.load import read_recipe
from tests.commands.by_the_report import train
from tests.commands.test_train import history_without_times, same_weights
from tests.torture.runner import differences

FUSED = ("execution=fast", "augmentation.engine=null")
needs_opencv = pytest.mark.skipif(not fused.is_installed(), reason="OpenCV is not installed")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The photos of a cache of this test's own."""
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/photos"


@pytest.mark.slow
@needs_opencv
def test_the_cache_is_filled_once_and_changes_no_number(photos, small, tmp_path, own, monkeypatch, capsys):
    settings = (*small, *FUSED, "training.phases.0.max_epochs=2")
    first = train(photos, output=tmp_path / "a", overrides=settings)
    out = capsys.readouterr().out
    assert "waited for data" in out and 0 <= first.result["waited_for_data"] <= 1
    (pack,) = own.glob("*-64px-*.pack")
    assert len(Pack(pack)) == 37
    second = train(photos, output=tmp_path / "b", overrides=settings, quiet=True)
    assert list(own.glob("*-64px-*.pack")) == [pack]
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "small"))
    monkeypatch.setenv("FIELDGUIDE_CACHE_GB", "0")
    third = train(photos, output=tmp_path / "c", overrides=settings)
    assert "37 of 37 photos not in the cache" in " ".join(capsys.readouterr().out.split())
    for other in (second, third):
        assert same_weights(first.path, other.path)
        assert history_without_times(first.path) == history_without_times(other.path)
    recipe = read_recipe(first.path / "recipe.yaml")
    assert recipe.augmentation.engine == "fused" and recipe.data.cache_side_px == 64


@needs_opencv
def test_a_fused_run_trains_again_from_its_own_recipe(photos, small, tmp_path, own):
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.rounds=0")
    first = train(photos, output=tmp_path / "a", overrides=settings, quiet=True)
    again = train(photos, first.path / "recipe.yaml", tmp_path / "b", quiet=True)
    assert same_weights(first.path, again.path)


@pytest.mark.slow
def test_fast_execution_can_keep_the_reference(photos, small, tmp_path, own):
    settings = (*small, "execution=fast", "training.phases.0.max_epochs=1", "training.rounds=0")
    run = train(photos, output=tmp_path / "a", overrides=(*settings, "augmentation.engine=reference"), quiet=True)
    recipe = read_recipe(run.path / "recipe.yaml")
    assert recipe.execution == "fast" and recipe.augmentation.engine == "reference" and not list(own.glob("*-64px-*"))
    assert 0 <= json.loads((run.path / "result.json").read_text())["waited_for_data"] <= 1


def test_without_opencv_null_is_the_reference_with_a_remark_and_fused_is_refused(
    photos, small, tmp_path, own, monkeypatch, capsys
):
    monkeypatch.setattr(fused, "is_installed", lambda: False)
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.rounds=0")
    run = train(photos, output=tmp_path / "a", overrides=settings)
    assert "OpenCV is not installed" in " ".join(capsys.readouterr().out.split())
    assert read_recipe(run.path / "recipe.yaml").augmentation.engine == "reference"
    with pytest.raises(UsageError, match=r"augmentation\.engine: fused needs OpenCV"):
        train(photos, output=tmp_path / "b", overrides=(*settings, "augmentation.engine=fused"), quiet=True)
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
@needs_opencv
def test_the_cache_is_shown_and_cleared(photos, small, tmp_path, own, monkeypatch):
    assert cache().packs == 0 and "0 decoded photos in 0 files" in cache().sentences()[1] and not own.exists()
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.rounds=0")
    train(photos, output=tmp_path / "a", overrides=settings, quiet=True)
    facts = cache()
    assert facts.photos == 37 + 12 and facts.packs == 2 and facts.used_bytes > 37 * 30 * 40 * 3
    assert str(own) in facts.sentences()[0] and "49 decoded photos in 2 files," in facts.sentences()[1]
    held = Pack(next(own.glob("*-64px-*.pack")))
    gc.collect()  # the training that just ended in this process may not be gone yet
    kept = cache(clear=True)
    assert (
        kept.photos == 37 and kept.sentences()[0] == "deleted the decoded photos; kept 1 file that a training is using"
    )
    del held
    gc.collect()
    assert cache(clear=True).photos == 0 and cache(clear=True).sentences()[0] == "deleted the decoded photos"
    monkeypatch.setenv("FIELDGUIDE_CACHE_GB", "lots")
    with pytest.raises(UsageError, match="FIELDGUIDE_CACHE_GB=lots"):
        cache()


def test_the_command_line_shows_the_cache(own, capsys, monkeypatch):
    monkeypatch.setenv("FIELDGUIDE_CACHE_GB", "2.5")
    app(["cache"], standalone_mode=False)
    out = capsys.readouterr().out
    assert str(own) in out and "0.00 GB of at most 2.5 GB (FIELDGUIDE_CACHE_GB)" in out


def test_decoded_photos_and_speeds_of_engines_lie_beside_each_other_and_each_is_cleared_alone(own, capsys):
    write_pack_of_one(own)
    speeds = Speeds({"network": "a"}, Kept.of_user().folder, {"plain": Speed(10, 0)})
    speeds.keep()
    assert speeds.path.parent == own.parent / "engines"
    app(["cache"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "1 decoded photo in 1 file" in out and str(own) in out
    assert "engine speeds of 1 network" in out and str(own.parent / "engines") in out
    cleared = cache(clear=True)
    assert cleared.photos == 0 and cleared.engines == 1 and speeds.path.exists()
    write_pack_of_one(own)
    app(["cache", "--forget-engines"], standalone_mode=False)
    assert "deleted the measured engine speeds" in capsys.readouterr().out
    assert not speeds.path.exists() and cache().photos == 1


def write_pack_of_one(folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_pack(folder / "a.pack", [("0" * 64, np.zeros((2, 3, 3), np.uint8))])


@pytest.mark.slow
@needs_opencv
def test_a_damaged_cache_is_told_after_the_training(photos, small, tmp_path, own):
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.rounds=0")
    first = train(photos, output=tmp_path / "a", overrides=settings, quiet=True)
    (pack,) = own.glob("*-64px-*.pack")
    content = bytearray(pack.read_bytes())
    content[5_000] ^= 16
    pack.write_bytes(content)
    said = []
    screen_warn, Screen.warn = Screen.warn, lambda self, text: said.append(text)
    try:
        second = train(photos, output=tmp_path / "b", overrides=settings, quiet=True)
    finally:
        Screen.warn = screen_warn
    assert same_weights(first.path, second.path) and any("1 damaged photo" in text for text in said)
    assert np.isclose(first.result["validation"]["accuracy"], second.result["validation"]["accuracy"])


@pytest.mark.slow
@needs_opencv
def test_a_fused_cached_folded_training_in_micro_batches_goes_on_bit_for_bit(
    photos, small, tmp_path, own, monkeypatch, capsys
):
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.phases.1.max_epochs=2",
                "training.phases.1.batch_norm=folded", "training.micro_batch_size=3", "training.schedule=cosine",
                "training.plateau=null")  # fmt: skip
    whole = train(photos, output=tmp_path / "whole", overrides=settings, quiet=True)
    real, done = TrainingDisplay.step_done, []

    def step_done(self, images):
        real(self, images)
        done.append(images)
        if len(done) in (3, 8):  # in each of the two phases
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TrainingDisplay, "step_done", step_done)
    with pytest.raises(FieldguideError, match="interrupted by SIGTERM"):
        train(photos, output=tmp_path / "cut", overrides=settings, quiet=True)
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "another"))  # filled anew
    assert resume(tmp_path / "cut", quiet=True).exit_code == 143
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / "no room"))
    monkeypatch.setenv("FIELDGUIDE_CACHE_GB", "0")
    capsys.readouterr()
    assert resume(tmp_path / "cut").exit_code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "37 of 37 photos not in the cache" in told and "waited for data" in told
    assert differences(whole.path, tmp_path / "cut") == []


@pytest.mark.slow
@needs_opencv
def test_an_experiment_called_again_takes_its_trials_with_what_auto_came_to(photos, small, tmp_path, own):
    settings = (*small, *FUSED, "training.phases.0.max_epochs=1", "training.phases.1.max_epochs=1", "training.rounds=0",
                "training.batch_size=auto")  # fmt: skip
    first = experiment(photos, ["resnet34-adam"], tmp_path / "table", overrides=settings, quiet=True)
    text = (tmp_path / "table/resnet34-adam/recipe.yaml").read_text()
    assert "micro_batch_size: 64" in text and "auto" not in text
    again = experiment(photos, ["resnet34-adam"], tmp_path / "table", overrides=settings, quiet=True)
    assert again.rows == first.rows and len(list((tmp_path / "table").iterdir())) == 5
