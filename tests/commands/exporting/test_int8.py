"""int8: what it is calibrated on, when it is accepted, and how a run's own is used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldguide.commands.export import export
from fieldguide.commands.exporting import int8, proof
from fieldguide.commands.exporting.proof import Answers, Proof
from fieldguide.commands.judging.held import int8_of
from fieldguide.commands.judging.models import load_runs
from fieldguide.commands.predict import predict
from fieldguide.deploy.export.exported import load_exported, open_variant
from fieldguide.deploy.export.formats import FORMATS, Variant
from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.int8 import Calibration, problem_with_int8
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.export.program import traced
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import ProofError, UsageError
from fieldguide.evaluation.predictions import Predictions
from fieldguide.model.description import find_bundle, read_description
from fieldguide.run_folder import RunFolder
from tests.deploy.export.test_graph import PHOTOS, bundle_at

REASON = problem_with_int8() or FORMATS["openvino"].problem() or ""
needs_nncf = pytest.mark.skipif(bool(REASON), reason=REASON)


def test_calibration_takes_classes_in_turn_and_always_the_same_photos():
    rows = [(Path(f"{name}/{number:03d}.jpg"), name) for name, count in (("a", 50), ("b", 3), ("c", 20))
            for number in range(count)]  # fmt: skip
    found = int8.calibration_photos(rows, 20)
    assert found == int8.calibration_photos(rows[::-1], 20) and len(set(found)) == 20
    assert [sum(path.parts[0] == name for path in found) for name in "abc"] == [9, 3, 8]
    assert len(int8.calibration_photos(rows)) == 73 and int8.calibration_photos([]) == []
    assert found[0].name != "000.jpg" or found[3].name != "001.jpg"  # not the first ones of a class


def answers(photos, wrong=0):
    labels = np.arange(photos) % 3
    logits = 5 * np.eye(3)[labels]
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    files = tuple(f"{number}.jpg" for number in range(photos))
    found = Predictions(files, labels, logits, ("a", "b", "c"))
    return Answers(found, found.probabilities(1.0), ())


def test_photos_too_few_to_show_that_nothing_is_lost_are_refused_before_anything_is_quantised():
    int8.demand_enough(answers(381))
    with pytest.raises(ProofError, match=r"on 380 photos: accuracy may be up to 1\.00 points lower .* proof PHOTOS"):
        int8.demand_enough(answers(380))


def test_a_loss_is_refused_where_the_test_shows_it_or_its_bound_is_a_point():
    assert not proof.compared(answers(1000), answers(1000, wrong=2), "int8").problems
    assert "is less accurate" in proof.compared(answers(1000), answers(1000, wrong=8), "int8").problems[0]
    assert "may be up to" in proof.compared(answers(1000), answers(1000, wrong=5), "int8").problems[0]


class Attempts:
    """A format whose int8 loses what is said, and the proofs of its attempts."""

    def __init__(self, folder, *problems):
        self.folder, self.problems, self.allowed = folder, list(problems), []
        self.format = replace(FORMATS["onnx"], quantize=self.quantize, run=lambda path: self)

    def quantize(self, folder, about, calibration):
        assert not (folder / "x.onnx").exists()  # a file that a runtime reads is never written over
        (folder / "x.onnx").touch()
        self.allowed.append(calibration.most_lost)
        return Variant("int8", ("x.onnx",))

    def compute(self, photos):
        return np.array([[0.6, 0.4]])

    def made(self):
        calibration = Calibration([Path("a"), Path("b")], lambda _: np.zeros((2, 2, 3)), lambda _: np.array([[1.0, 0]]))
        told = []
        return int8.int8_variant(self.format, self.folder, {}, calibration, self.prove, told.append), told

    def prove(self, variant):
        return {"name": variant.name}, Proof({}, tuple(self.problems.pop(0)), ("a.jpg: x",))


def test_a_good_int8_is_taken_at_once(tmp_path):
    attempts = Attempts(tmp_path, [])
    found, _ = attempts.made()
    assert attempts.allowed == [None] and found["layers_in_fp32"] == "none" and found["calibrated_on"] == 2
    assert found["lost_on_training_photos"] == pytest.approx(0.4)


def test_one_that_loses_is_tried_again_with_layers_in_fp32_and_a_quarter_of_the_change(tmp_path):
    attempts = Attempts(tmp_path, ["it is less accurate"], [])
    found, told = attempts.made()
    assert attempts.allowed == [None, pytest.approx(0.1)] and found["layers_in_fp32"] == "the worst"
    assert "int8 refused: it is less accurate. Trying again" in told[-1]


def test_one_that_loses_twice_is_refused_with_both_figures(tmp_path):
    with pytest.raises(ProofError, match=r"(?s)also with layers in fp32, .*worse by 3.*a\.jpg") as caught:
        Attempts(tmp_path, ["worse by 9"], ["worse by 3"]).made()
    assert caught.value.exit_code == 1


def test_int8_of_a_format_without_it_says_which_have_it(trained, tmp_path, monkeypatch):
    run = trained[1].path
    for format in ("torch", "web"):
        with pytest.raises(UsageError, match=f"int8: is for format onnx or openvino, not {format}; leave it out"):
            export(run, tmp_path / "x", format=format, int8=True)
    monkeypatch.setattr("fieldguide.commands.export.problem_with_int8", lambda: "pip install 'fieldguide[int8]'")
    with pytest.raises(UsageError, match=r"fieldguide\[int8\]"):
        export(run, tmp_path / "x", int8=True)


@pytest.mark.slow
@needs_nncf
def test_too_few_photos_leave_nothing(trained, tmp_path):
    with pytest.raises(ProofError, match="on 12 photos"):
        export(trained[1].path, tmp_path / "x", format="onnx", int8=True, quiet=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run of its own that holds int8, proven with a bound that 12 photos can keep."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (proof, int8):
            patch.setattr(module, "MOST_LOST", 0.5)
        path = Path(shutil.copytree(trained[1].path, tmp_path_factory.mktemp("int8") / "run"))
        export(path, path / "int8", format="openvino", int8=True, quiet=True)
    return path


@pytest.mark.slow
@needs_nncf
def test_int8_is_written_with_its_figures_and_used_only_where_that_is_allowed(run, trained, tmp_path):
    said = json.loads((run / "int8" / "export.json").read_text())
    exact, _, own = said["variants"]
    assert (own["name"], said["serves"], own["calibrated_on"]) == ("int8", "fp32", 37)
    assert own["bytes"] < 0.6 * exact["bytes"] and own["beside_fp32"]["times_as_fast"] > 0
    assert said["tolerance"] < 0.01  # of the exact files
    page = (run / "int8" / "EXPORT.md").read_text()
    assert "int8: ranges from 37 training photos" in page and "by the paired test" in page
    files = sorted((trained[0] / "test").rglob("*.png"))
    before = load_exported(run / "int8").predict_proba(files)
    after = load_exported(run / "int8", allow_int8=True).predict_proba(files)
    apart = np.abs(before - after).max()
    assert 1e-5 < apart < 0.1
    np.testing.assert_allclose(before, load_predictor(run, "cpu").predict_proba(files), atol=1e-3)


@pytest.mark.slow
@needs_nncf
def test_the_engine_int8_gives_the_exports_probabilities(run, trained):
    files = sorted((trained[0] / "test").rglob("*.png"))
    expected = load_exported(run / "int8", allow_int8=True).predict_proba(files)
    predictor = load_runs(run, "cpu", "int8").predictor
    np.testing.assert_allclose(predictor.predict_proba(files), expected, atol=5e-3)  # the resize differs by a level
    assert predictor.served_by == "int8" and predictor.remarks == ()


@pytest.mark.slow
@needs_nncf
def test_int8_in_onnx_quantises_the_network_and_leaves_the_resize(tmp_path):
    import onnx

    bundle = bundle_at(tmp_path / "bundle")
    members, about = load_members([bundle], "photo")
    FORMATS["onnx"].write(traced(Graph(members, "photo"), 32), tmp_path, about)
    exact = open_variant(tmp_path, "onnx", "model.onnx")
    calibration = Calibration(
        [Path(str(place)) for place in range(4)], lambda path: PHOTOS[int(path.name)], exact.compute
    )
    variant = FORMATS["onnx"].quantize(tmp_path, about, calibration)
    quantised = open_variant(tmp_path, "onnx", variant.files[0])
    assert quantised.about == exact.about
    apart = np.abs(quantised.predict_proba(PHOTOS) - exact.predict_proba(PHOTOS)).max()
    assert 1e-6 < apart < 0.1
    model = onnx.load(tmp_path / variant.files[0])
    producers = {name: node for node in model.graph.node for name in node.output}
    multiplied = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    rounded = [
        any(getattr(producers.get(name), "op_type", "") == "DequantizeLinear" for name in node.input)
        for node in multiplied
    ]
    left = [node.op_type for node, own in zip(multiplied, rounded, strict=True) if not own]
    assert left == ["MatMul"] * 2 and sum(rounded) > 5


def test_a_run_without_int8_or_with_another_bundles_does_not_use_it(trained, tmp_path):
    own = trained[1].path
    assert int8_of(RunFolder(own), read_description(find_bundle(own))) == (None, "")
    with pytest.raises(UsageError, match=r"engine int8: the run holds no export .*format openvino --int8"):
        load_runs(own, "cpu", "int8")
    with pytest.raises(UsageError, match=r"allow_int8: .*holds no export in int8; make one: fieldguide export"):
        predict(own, trained[0] / "test", tmp_path / "x.csv", allow_int8=True, quiet=True)


@pytest.mark.slow
@needs_nncf
def test_int8_of_an_earlier_bundle_is_named_and_not_used(run, trained, tmp_path):
    changed = Path(shutil.copytree(run, tmp_path / "run"))
    description = replace(read_description(find_bundle(changed)), temperature=3.0)
    file, remark = int8_of(RunFolder(changed), description)
    assert file is None and "was made from another bundle than the run has now; export again" in remark
    (changed / "int8" / "model_int8.bin").write_bytes(b"x")
    loaded = load_runs(changed, "cpu", "auto")
    assert "changed after its export" in loaded.sentences()[0] and "int8 is not used" in loaded.sentences()[0]
