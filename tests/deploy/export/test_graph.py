"""An export's graph against the predictor of the same bundle, before any conversion."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.ensemble import Ensemble
from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description

CLASSES = ("ash", "beech", "cedar")
PLAIN = Preprocessing(32, 36, "bicubic", (0.5, 0.4, 0.3), (0.25, 0.2, 0.15))


def photo(seed):
    """Of one colour with noise, so that answers differ."""
    draw = np.random.default_rng(seed)
    return (draw.integers(0, 200, 3) + draw.integers(0, 56, (40 + seed, 50, 3))).astype(np.uint8)


PHOTOS = [photo(seed) for seed in range(4)]


def bundle_at(path, preprocessing=PLAIN, classes=CLASSES, temperature=1.0, seed=3, backbone="test_resnet"):
    """A bundle of a small network whose answers differ from photo to photo."""
    architecture = Architecture(backbone, "linear", None, 0.0, len(classes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make_classifier(architecture)
        with torch.no_grad():
            for parameter in network.head.parameters():
                parameter.mul_(60)
    calibration = {"fitted_on_n": 9, "note": None}
    said = Description(
        architecture, classes, preprocessing.to_dict(), "none", temperature=temperature, calibration=calibration
    )
    write_bundle(path, said, network.state_dict())
    return path


def answers(paths, takes="photo"):
    members, _ = load_members(paths, takes)
    graph = Graph(members, takes).eval()
    with torch.inference_mode():
        return np.concatenate([graph(torch.from_numpy(photo)[None]).numpy() for photo in PHOTOS])


@pytest.mark.parametrize("flips", ["none", "horizontal"])
def test_probabilities_are_the_predictors(tmp_path, flips):
    path = bundle_at(tmp_path / "a", replace(PLAIN, flips=flips), temperature=2.5)
    expected = load_predictor(path, "cpu").predict_proba(PHOTOS)
    assert np.ptp(expected, axis=0).max() > 0.03  # else any graph would do
    np.testing.assert_allclose(answers([path]), expected, atol=2e-3)


def test_several_bundles_give_the_ensembles_mean_class_by_class(tmp_path):
    one = bundle_at(tmp_path / "a", temperature=2.0)
    other = bundle_at(tmp_path / "b", PLAIN.of_size(48), ("cedar", "ash", "beech"), 0.5, seed=5)
    expected = Ensemble([load_predictor(path, "cpu") for path in (one, other)], ["a", "b"]).predict_proba(PHOTOS)
    np.testing.assert_allclose(answers([one, other]), expected, atol=2e-3)
    with pytest.raises(UsageError, match="input resized"):
        load_members([one, other], "resized")


def test_bundles_that_read_photos_in_different_ways_cannot_share_a_file(tmp_path):
    one = bundle_at(tmp_path / "a")
    other = bundle_at(tmp_path / "b", replace(PLAIN, reading=replace(PLAIN.reading, alpha="ignore")), seed=5)
    with pytest.raises(UsageError, match="reads photos in another way"):
        load_members([one, other], "photo")
