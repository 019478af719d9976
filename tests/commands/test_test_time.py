"""What happens at test time alone: judged and served alike, and told."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fieldguide import evaluate, load
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
