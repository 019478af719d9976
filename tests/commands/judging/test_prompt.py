"""A run that holds an export predicts a few photos by it, without torch."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fieldguide.commands.export import export
from fieldguide.commands.judging import models, prompt
from fieldguide.commands.judging.models import load_runs
from fieldguide.commands.predict import predict
from fieldguide.deploy.export.formats import FORMATS
from fieldguide.run_folder import RunFolder

pytestmark = pytest.mark.skipif(bool(FORMATS["onnx"].problem()), reason=FORMATS["onnx"].problem() or "")
ALONE = """
import sys
from fieldguide.cli import main
sys.argv = ["fieldguide", *sys.argv[1:]]
try:
    main()
finally:
    print(sorted({"torch", "timm", "torchvision", "openvino"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """Photos and a run that holds an export."""
    photos, made = trained
    own = Path(shutil.copytree(made.path, tmp_path_factory.mktemp("own") / "run"))
    export(own, RunFolder(own).export, format="onnx", quiet=True)
    return photos, own


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_few_photos_are_predicted_without_torch_and_as_the_run_does(run, tmp_path):
    photos, path = run
    words = ["predict", path, photos / "test", "-o", tmp_path / "few.csv"]
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, words)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert "by ONNX Runtime" in done.stdout + done.stderr
    predict(path, photos / "test", tmp_path / "plain.csv", engine="plain", quiet=True)
    found, expected = rows(tmp_path / "few.csv"), rows(tmp_path / "plain.csv")
    assert [(row["image"], row["label"]) for row in found] == [(row["image"], row["label"]) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert float(row["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-3)


@pytest.mark.parametrize(
    "asked",
    [
        {"photos": prompt.FEW + 1},
        {"photos": None},
        {"photos": 1, "engine": "plain"},
        {"photos": 1, "flips": "none"},
    ],
)
def test_whoever_asks_for_something_else_gets_the_run(run, monkeypatch, asked):
    monkeypatch.setattr(models, "export_of", lambda *_: pytest.fail("opened the export"))
    more = {"engine": "auto", **asked}
    assert not load_runs(run[1], "cpu", more.pop("engine"), **more).predictor.is_calibrated_inside


def test_an_export_of_another_bundle_or_a_damaged_one_is_told_and_not_used(run, tmp_path):
    own = Path(shutil.copytree(run[1], tmp_path / "run"))
    folder = RunFolder(own).export
    said = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(said | {"bundles_sha256": ["0" * 64]}))
    loaded = load_runs(own, "cpu", "auto", photos=1)
    assert not loaded.predictor.is_calibrated_inside
    assert "was made from another bundle than the run has now; export again" in loaded.remarks[0]
    (folder / "export.json").write_text("{")
    assert "it is not used" in load_runs(own, "cpu", "auto", photos=1).remarks[0]
