"""What happens at test time alone: judged and served alike, and told."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fieldguide import UsageError, evaluate, load, predict
from fieldguide.data.read.decode import read_photo
from fieldguide.data.read.preprocess import center, normalize, pixels
from fieldguide.evaluation.predictions import read_predictions
from fieldguide.model.bundle import load_classifier
from tests.commands.by_the_report import train


@pytest.fixture(scope="module")
def mirrored(trained, tmp_path_factory, small):
    """As the run of `trained`, but for the flips at test time."""
    output = tmp_path_factory.mktemp("mirrored") / "run"
    return train(trained[0], output=output, overrides=[*small, "data.test_flips=horizontal"], quiet=True)


def test_flips_at_test_time_change_the_bundles_description_and_no_weight(trained, mirrored):
    one, other = (json.loads((run.path / "bundle/model.json").read_text()) for run in (trained[1], mirrored))
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["preprocessing"] | {"flips": "horizontal"} == other["preprocessing"]
    assert one["preprocessing"]["flips"] == "none"
    weights = load_file(mirrored.path / "bundle/model.safetensors")
    assert weights and mirrored.result["best_epoch"] == trained[1].result["best_epoch"]


def test_a_run_with_flips_is_judged_as_it_serves(trained, mirrored):
    photos, plain = trained
    kept = read_predictions(mirrored.path / "predictions.npz")
    served = np.stack([logits for _, logits, _ in mirrored.load("cpu").logits([photos / file for file in kept.files])])
    inputs = [pixels(center(read_photo(photos / file), plain.load("cpu").preprocessing)) for file in kept.files]
    images = normalize(torch.stack(inputs), plain.load("cpu").preprocessing)
    network, _ = load_classifier(plain.path / "bundle")
    with torch.inference_mode():
        one, other = network(images).numpy(), network(images.flip(-1)).numpy()
    np.testing.assert_allclose(served, kept.logits, atol=1e-5)
    np.testing.assert_allclose(served, (one + other) / 2, atol=1e-4)
    assert not np.allclose(one, other, atol=1e-2)
    judged = evaluate(mirrored.path, photos, part="val", quiet=True)
    assert judged.figures["loss"] == pytest.approx(mirrored.result["validation"]["loss"], abs=1e-6)
    assert load(mirrored.path).preprocessing.flips == "horizontal"


def test_predict_can_leave_the_mirror_images_out_and_says_so(trained, mirrored, tmp_path, capsys):
    photos, plain = trained
    inputs = photos / "val"
    told = {}
    for name, run, flips in (("one", mirrored, "none"), ("two", mirrored, "as-trained"), ("three", plain, "none")):
        predict(run.path, inputs, tmp_path / f"{name}.csv", flips=flips, engine="plain")
        told[name] = " ".join(capsys.readouterr().out.split())
    kept = list(read_predictions(mirrored.path / "predictions.npz").files)
    own = load(mirrored.path, flips="none")
    assert own.preprocessing.flips == "none" and load(mirrored.path).preprocessing.flips == "horizontal"
    rows = {
        name: np.stack([row for _, row, _ in model.logits([photos / file for file in kept])])
        for name, model in (("plain", plain.load("cpu")), ("own", own), ("mirrored", mirrored.load("cpu")))
    }
    np.testing.assert_array_equal(rows["own"], rows["plain"])  # the same weights
    assert not np.allclose(rows["own"], rows["mirrored"], atol=1e-3)
    assert pickle.loads(pickle.dumps(own)).preprocessing.flips == "none"
    confidences = {name: (tmp_path / f"{name}.csv").read_text() for name in told}
    assert confidences["one"] != confidences["two"]
    assert "without mirror images: half the time, but the run was judged and calibrated with them" in told["one"]
    assert "mirror images" not in told["two"] and "flips none changes nothing" in told["three"]


def test_flips_that_there_are_not_are_refused(trained, tmp_path):
    with pytest.raises(UsageError, match="flips: 'vertical' must be as-trained or none"):
        predict(trained[1].path, trained[0] / "val", tmp_path / "x.csv", flips="vertical", quiet=True)
    assert not (tmp_path / "x.csv").exists()
