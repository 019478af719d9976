"""Our own scripts in benchmarks/peers: what they time is what they say."""

import argparse
import sys

import pytest

from .test_accuracy import BENCHMARKS


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    yield
    for name in ("contract", "fieldguide_predict"):
        sys.modules.pop(name, None)


def test_the_timed_prediction_loads_no_model_and_predicts_every_photo(tmp_path, make_photos, monkeypatch):
    import fieldguide_predict as script

    photos = make_photos(tmp_path / "photos", {"a": 3}) / "a"
    made = script.bundle(tmp_path, "resnet34", 32)
    monkeypatch.setattr("fieldguide.commands.ensemble.load_predictor", lambda *_, **__: pytest.fail("loaded again"))
    options = argparse.Namespace(photos=str(photos), engine="plain", output=str(tmp_path / "prediction.csv"))
    watch, written = script.by_the_library(options, made)
    assert written.images == 3 and len(watch.seconds) == 1
    assert len((tmp_path / "prediction.csv").read_text().splitlines()) == 4
