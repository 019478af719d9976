"""Our own scripts in benchmarks/peers: what they time is what they say, and what they print can be read."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from .test_accuracy import BENCHMARKS


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in (
        "contract",
        "fieldguide_predict",
        "fieldguide_train",
        "accuracy_contract",
        "accuracy_fieldguide",
        "accuracy_results",
        "accuracy_run",
        "predict",
        "side_by_side",
    ):
        sys.modules.pop(name, None)


def test_the_timed_prediction_loads_no_model_and_predicts_every_photo(tmp_path, make_photos, monkeypatch):
    import fieldguide_predict as script

    photos = make_photos(tmp_path / "photos", {"a": 3}) / "a"
    made = script.bundle(tmp_path, "resnet34", 32)
    monkeypatch.setattr("fieldguide.deploy.predictor.load_predictor", lambda *_, **__: pytest.fail("loaded again"))
    output = str(tmp_path / "prediction.csv")
    options = argparse.Namespace(photos=str(photos), engine="plain", output=output, judged=None)
    watch, written = script.by_the_library(options, made)
    assert written.images == 3 and len(watch.seconds) == 1
    assert len((tmp_path / "prediction.csv").read_text().splitlines()) == 4


def test_a_contestant_is_judged_by_the_classes_that_it_wrote_and_must_write_each_photo(tmp_path):
    from predict import OURS, PLAIN, Judge
    from side_by_side import Contestant, Row

    judge = Judge(2, {"00000": "ant", "00001": "bass"}, ("ant", "bass"), whole=False)
    (tmp_path / "prediction.csv").write_text("image,label,confidence\na.jpg,0,0.5\nb.jpg,1,0.5\n")
    (tmp_path / "judged.csv").write_text("image,label,confidence\n00000.jpg,0,0.5\n00001.jpg,0,0.5\n00002.jpg,0,1\n")
    one: dict[str, object] = {"images_per_second": 1.0}
    assert judge(tmp_path, one) == "" and one["accuracy"] == 0.5
    (tmp_path / "judged.csv").write_text("image,label,confidence,status\n00000.jpg,ant,0.5,ok\n00001.jpg,bass,0.5,ok\n")
    other: dict[str, object] = {"images_per_second": 3.0}
    assert judge(tmp_path, other) == "" and other["accuracy"] == 1
    rows = [Row(Contestant(PLAIN, ""), [one]), Row(Contestant(OURS, "", is_ours=True), [other])]
    assert f"| {PLAIN} | 3.00 to 3.00 | 1, 0 | +50.00 points" in judge.compare(rows)[-1]
    assert other["same"] == 0.5 and "predicted" not in other
    (tmp_path / "prediction.csv").write_text("image,label,confidence\na.jpg,0,0.5\n")
    assert "1 rows" in judge(tmp_path, {})


def test_photos_that_time_left_out_are_predicted_afterwards(tmp_path, monkeypatch):
    import accuracy_fieldguide as script

    def run(command, **_):
        listed = Path(command[command.index("predict") + 2]).read_text().splitlines()
        made = Path(command[command.index("-o") + 1])
        made.write_text("image,label,confidence,status\n" + "".join(f"{name},b,0.5,ok\n" for name in listed))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(script.subprocess, "run", run)
    rest = [Path("a/1.jpg"), Path("b/2.jpg")]
    said = script.said_later(tmp_path / "run", tmp_path / "val", rest, tmp_path, {})
    assert said == {Path("a/1.jpg"): "b", Path("b/2.jpg"): "b"}


@pytest.mark.torture
def test_a_run_of_our_own_command_tells_what_the_run_itself_holds(tmp_path, make_photos):
    from accuracy_run import run_once

    make_photos(tmp_path / "photos", {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2})
    files = sorted((tmp_path / "photos" / "val").glob("*/*"))
    named = [file.relative_to(tmp_path / "photos" / "val") for file in files]
    setting = {"photos": {"files": [name.as_posix() for name in named], "classes": [name.parts[0] for name in named]}}
    command = [sys.executable, str(BENCHMARKS / "peers" / "accuracy_fieldguide.py"), "--photos", tmp_path / "photos"]
    command += ["--backbone", "resnet10t", "--weights", "none", "--size", "32", "--seed", "0"]
    command += ["--minutes", "0.1", "--keep", tmp_path / "kept"]
    values, failure = run_once([str(word) for word in command], 120, setting)
    assert not failure
    history = [json.loads(line) for line in (tmp_path / "kept" / "history.jsonl").read_text().splitlines()]
    assert values["epochs"] == len(history) > 0
    assert values["epoch_seconds"] == [epoch["seconds"] for epoch in history]
    result = json.loads((tmp_path / "kept" / "result.json").read_text())
    assert values["accuracy"] == values["validation_accuracy"] == result["validation"]["accuracy"]
    assert values["predicted"] and set(values["predicted"]) <= {"a", "b"}
    assert 0 < sum(values["epoch_seconds"]) < values["seconds_used"] <= values["wall_seconds"]


def test_each_timed_training_begins_with_an_empty_cache_of_its_own(tmp_path, monkeypatch):
    import fieldguide_train as script

    caches = []

    def run(command, env, **_):
        caches.append(Path(env["FIELDGUIDE_CACHE"]))
        assert not caches[-1].exists()
        caches[-1].mkdir()
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(script.subprocess, "run", run)
    options = argparse.Namespace(
        photos="photos", network="resnet34", size=32, batch=8, execution="fast", batch_norm=None, trainable=None, set=[]
    )
    for epochs in (2, 1):
        script.run(options, epochs, tmp_path)
    assert len(set(caches)) == 2 and all(cache.parent == tmp_path for cache in caches)
