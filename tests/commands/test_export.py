"""`export` through each format, and exported folders in `predict` and `evaluate`."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldguide.commands.evaluate import evaluate
from fieldguide.commands.export import export
from fieldguide.commands.exporting.proof import tolerance
from fieldguide.commands.predict import predict
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.deploy.export import graph
from fieldguide.deploy.export.exported import load_exported
from fieldguide.deploy.export.formats import FORMATS, Variant
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.export.runtime import Runtime
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import PhotosError, ProofError, UsageError
from tests.commands.by_the_report import train


def problem(format):
    """Why a format cannot be tested here; an empty text if it can."""
    return FORMATS[format].problem() or ""


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """Photos and a run of this file's own, since evaluating keeps figures in it."""
    photos, made = trained
    return photos, Path(shutil.copytree(made.path, tmp_path_factory.mktemp("own") / "run"))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """An export for torch, which every machine can make; not to be changed."""
    return export(run[1], tmp_path_factory.mktemp("torch") / "made", format="torch", quiet=True)


def demand_same_answers(made, run):
    photos, path = run
    for variant in made.content["variants"]:
        assert variant["proof"]["same"] == variant["proof"]["images"] == 12
        assert variant["proof"]["largest_difference"] < 0.01
    files = sorted((photos / "test" / "cat").iterdir())
    found, expected = load_exported(made.path), load_predictor(path, "cpu")
    assert found.classes == expected.classes
    np.testing.assert_allclose(found.predict_proba(files), expected.predict_proba(files), atol=1e-3)
    page = (made.path / "EXPORT.md").read_text()
    assert "12 of 12" in page and "```python" in page and "```csharp" in page
    assert "Photos with more than 8 bits: the training had none, so it expects none." in page


@pytest.mark.slow
def test_an_export_for_torch_is_proven_and_predicts_as_its_run(exported, run):
    demand_same_answers(exported, run)


@pytest.mark.slow
@pytest.mark.skipif(bool(problem("openvino")), reason=problem("openvino"))
def test_an_export_for_openvino_is_proven_and_predicts_as_its_run(run, tmp_path):
    made = export(run[1], tmp_path / "made", format="openvino", quiet=True)  # by way of ONNX
    assert made.names == ("fp32", "fp16")
    demand_same_answers(made, run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "features", "formats"),
    [
        ("efficientnet_lite0", "stages_max", ["openvino"]),  # by way of ONNX
        pytest.param("convnext_atto", "last", ["onnx", "torch"], marks=pytest.mark.torture),
        ("test_vit", "last", ["openvino", "torch"]),
    ],
)
@pytest.mark.skipif(bool(problem("onnx") or problem("openvino")), reason=problem("onnx") or problem("openvino"))
def test_networks_of_other_families_are_proven(run, tmp_path, small, backbone, features, formats):
    settings = [*small, f"model.backbone={backbone}", f"model.features={features}", "model.head=linear"]
    own = train(run[0], output=tmp_path / "run", overrides=settings, quiet=True).path
    for format in formats:
        demand_same_answers(export(own, tmp_path / format, format=format, quiet=True), (run[0], own))


@pytest.mark.slow
@pytest.mark.skipif(bool(problem("onnx")), reason=problem("onnx"))
def test_resized_photos_are_taken_where_that_is_asked_for(run, tmp_path):
    made = export(run[1], tmp_path / "made", input="resized", quiet=True)
    assert made.content["input"]["shape"] == ["batch", 32, 32, 3]
    demand_same_answers(made, run)
    assert "You resize" in (made.path / "EXPORT.md").read_text()


def test_samples_hold_what_the_trained_model_says(exported, run):
    told = json.loads((exported.path / "samples" / "expected.json").read_text())
    assert len(told["samples"]) == 5
    most = max(variant["proof"]["largest_difference"] for variant in exported.content["variants"])
    assert told["tolerance"] == tolerance([{"largest_difference": most}]) >= max(0.001, 1.5 * most)
    assert tolerance([{"largest_difference": 0.0016}, {"largest_difference": 0}]) == 0.003
    model = load_predictor(run[1], "cpu")
    for sample in told["samples"]:
        probabilities = model.predict_proba([exported.path / "samples" / sample["file"]])[0]
        np.testing.assert_allclose(list(sample["probabilities"].values()), probabilities, atol=1e-5)
        assert list(sample["probabilities"]) == list(model.classes)


def test_predict_and_evaluate_take_an_export_as_a_run(exported, run, tmp_path):
    photos, path = run
    rows = {}
    for name, model in (("run", path), ("export", exported.path)):
        predict(model, photos / "test", tmp_path / f"{name}.csv", engine="auto", quiet=True)
        rows[name] = list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
    assert [row["label"] for row in rows["run"]] == [row["label"] for row in rows["export"]]
    figures = evaluate(exported.path, photos, quiet=True).figures
    assert figures["accuracy"] == evaluate(path, photos, quiet=True).figures["accuracy"]
    assert figures["calibration"]["judged"].endswith("with the temperature inside the export")
    with pytest.raises(UsageError, match="engine openvino: an export has its own runtime"):
        predict(exported.path, photos / "test", tmp_path / "x.csv", engine="openvino", quiet=True)
    with pytest.raises(UsageError, match="an export predicts alone"):
        predict([exported.path, path], photos / "test", tmp_path / "x.csv", quiet=True)


def test_photos_that_were_loaded_before_get_the_same_answers(exported, run, make_photos, tmp_path):
    other = make_photos(tmp_path, {"a": 2}, size=(50, 34))
    files = [file for pair in zip(sorted((run[0] / "test" / "cat").iterdir()), sorted(other.rglob("*.png")),
                                  strict=False) for file in pair]  # fmt: skip
    made = load_exported(exported.path)
    found = made.answered([made.load(file) for file in files])
    np.testing.assert_allclose(found, [logits for _, logits, _ in made.logits(files)], atol=1e-5)


class Spoilt(Runtime):
    """The trained model, less sure than it is."""

    def __init__(self, path, members, about):
        self.about, self._graph = about, graph.Graph([replace(each, temperature=9.0) for each in members]).eval()

    def compute(self, photos):
        with torch.inference_mode():
            return self._graph(torch.from_numpy(photos)).numpy()


def test_a_failed_proof_leaves_nothing_and_names_the_worst_photos(run, tmp_path, monkeypatch):
    members, about = load_members([run[1]], "photo")
    wrong = replace(FORMATS["torch"], write=_write_nothing, run=lambda path: Spoilt(path, members, about))
    monkeypatch.setitem(FORMATS, "torch", wrong)
    monkeypatch.setattr("fieldguide.commands.export.traced", lambda *_: None)
    with pytest.raises(ProofError, match=r"No export is left\nThe photos that differ most:\n  val/") as caught:
        export(run[1], tmp_path / "made", format="torch", quiet=True)
    assert caught.value.exit_code == 1 and list(tmp_path.iterdir()) == []


def _write_nothing(program, folder, about):
    (folder / "model.pt2").touch()
    return [Variant("fp32", ("model.pt2",))]


def test_an_export_that_was_changed_is_refused(exported, tmp_path):
    shutil.copytree(exported.path, tmp_path / "made")
    with (tmp_path / "made" / "model.pt2").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UsageError, match="was changed after its export"):
        load_exported(tmp_path / "made")


def test_no_output_replaces_a_file_of_an_export(exported):
    for name in ("model.pt2", "export.json", "EXPORT.md", "samples/1.png"):
        with pytest.raises(UsageError, match="is a file of"):
            demand_free_outputs({"-o": exported.path / name})
    demand_free_outputs({"-o": exported.path / "mine.csv"})


def test_mistakes_say_what_to_do(exported, run, tmp_path, monkeypatch):
    path = run[1]
    with pytest.raises(UsageError, match=r"format litert: is not supported: litert-torch needs"):
        export(path, tmp_path / "x", format="litert")
    with pytest.raises(UsageError, match="format tflite: must be one of onnx, openvino, torch, web"):
        export(path, tmp_path / "x", format="tflite")
    with pytest.raises(UsageError, match=r"exists already; choose another folder"):
        export(path, exported.path, format="torch")
    with pytest.raises(UsageError, match="split: is for format web; leave it out"):
        export(path, tmp_path / "x", format="torch", split=True)
    with pytest.raises(UsageError, match="is an export already"):
        export(exported.path, tmp_path / "x", format="torch")
    shutil.copytree(path / "bundle", tmp_path / "bundle")
    with pytest.raises(UsageError, match="bundle without its run, so its photos are unknown; give some: proof PHOTOS"):
        export(tmp_path / "bundle", tmp_path / "x", format="torch", quiet=True)
    with pytest.raises((UsageError, PhotosError), match="nowhere"):
        export(path, tmp_path / "x", format="torch", proof=tmp_path / "nowhere", quiet=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'fieldguide\[export\]'"):
        export(path, tmp_path / "x", format="onnx")
    assert not (tmp_path / "x").exists()
