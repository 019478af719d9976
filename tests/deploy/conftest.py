"""A bundle as it is before a temperature was fitted."""

import pytest
import torch

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description

PREPROCESSING = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)
CLASSES = ("ash", "beech", "cedar")


@pytest.fixture
def bundle(tmp_path):
    """Of a small network with random weights."""
    architecture = Architecture("test_resnet", "linear", None, 0.0, 3)
    description = Description(architecture, CLASSES, PREPROCESSING.to_dict(), "none")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        write_bundle(tmp_path / "bundle", description, make_classifier(architecture).state_dict())
    return tmp_path / "bundle"
