"""Each engine against the plain one, at any number of images."""

import numpy as np
import pytest
import torch
from torch import nn

from fieldguide.deploy.engines import in_pieces, plain
from fieldguide.deploy.serving import NAMES, OFFERS, TOLERANCE, demand_engine, relative_difference
from fieldguide.errors import UsageError
from fieldguide.model.classifier import Architecture, make_classifier
from fieldguide.model.folding import fold_batch_norm

CPU = torch.device("cpu")
SIDE, BATCH = 32, 4


@pytest.fixture
def classifier():
    """A small residual network whose batch normalisation has statistics of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = make_classifier(Architecture("test_resnet", "bottleneck", 16, 0.3, 5)).train()
        with torch.no_grad():
            for _ in range(5):
                made(torch.randn(16, 3, SIDE, SIDE) * 2 + 1)
        return made.eval()


@pytest.fixture
def images():
    return torch.randn(11, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", OFFERS)
def test_an_engine_agrees_with_the_plain_one_and_takes_any_number_of_images(name, classifier, images):
    if problem := OFFERS[name].problem(CPU):
        pytest.skip(problem)
    expected = plain(classifier, CPU)(images)
    engine = OFFERS[name].make(classifier, CPU, BATCH, SIDE)
    assert relative_difference(engine(images), expected) <= TOLERANCE
    few = [engine(images[:count]) for count in (1, 3, 4, 5)]
    for logits in few:
        assert logits.dtype == np.float32
        assert relative_difference(logits, expected[: len(logits)]) <= TOLERANCE
    np.testing.assert_array_equal(plain(classifier, CPU)(images), expected)  # the classifier is as it was


def test_folding_leaves_no_batch_normalisation_and_changes_nothing_but_rounding(classifier, images):
    folded = fold_batch_norm(classifier.backbone)
    assert any(isinstance(part, nn.BatchNorm2d) for part in classifier.backbone.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    with torch.inference_mode():
        expected = classifier.backbone(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Shared(nn.Module):
    """A convolution that is read twice, and one that is called twice: neither can be folded."""

    def __init__(self):
        super().__init__()
        self.read_twice, self.called_twice = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        read = self.read_twice(images)
        called = self.second(self.called_twice(images)) + self.called_twice(images)
        return self.first(read) + read + called


def test_a_convolution_that_others_read_is_not_folded():
    network = Shared()
    with torch.no_grad():
        network(torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    images, network = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), network.eval()
    folded = fold_batch_norm(network)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules()) == 2
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images))


class Undecided(nn.Module):
    """Its way depends on its input, so it cannot be followed without one."""

    def forward(self, images):
        return images * 2 if images.sum() > 0 else images


def test_a_network_that_cannot_be_followed_is_left_as_it_is():
    folded = fold_batch_norm(Undecided())
    assert isinstance(folded, Undecided)
    torch.testing.assert_close(folded(torch.ones(1, 3)), 2 * torch.ones(1, 3))


def test_what_fills_a_batch_up_is_in_no_answer():
    seen = []

    def run(images):
        seen.append(images.clone())
        return images.sum(dim=(1, 2, 3)).numpy()[:, None]

    images = torch.arange(1.0, 8.0).view(7, 1, 1, 1)
    answers = in_pieces(run, 3)(images)
    np.testing.assert_array_equal(answers[:, 0], np.arange(1, 8))
    assert [tuple(piece.shape) for piece in seen] == [(3, 1, 1, 1)] * 3 and seen[-1][1:].abs().sum() == 0


def test_an_engine_that_uses_its_memory_again_spoils_no_answer():
    memory = np.zeros((2, 1), dtype=np.float32)

    def run(images):
        memory[:, 0] = images[:, 0, 0, 0].numpy()
        return memory

    answers = in_pieces(run, 2)(torch.arange(4.0).view(4, 1, 1, 1))
    np.testing.assert_array_equal(answers[:, 0], [0, 1, 2, 3])


def test_an_engine_that_there_is_none_of_is_refused_with_the_names_that_there_are():
    with pytest.raises(UsageError, match=r"--engine tensorrt: must be one of auto, plain, openvino, folded, compiled"):
        demand_engine("tensorrt", CPU)
    for name in NAMES[:2]:
        demand_engine(name, CPU)


def test_a_missing_extra_is_said_with_what_to_do_and_only_when_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--engine openvino: OpenVINO is not installed: pip install"):
        demand_engine("openvino", CPU)
    demand_engine("auto", CPU)


def test_openvino_is_refused_on_a_gpu():
    with pytest.raises(UsageError, match=r"--engine openvino: OpenVINO serves on a CPU, and the device is cuda:0"):
        demand_engine("openvino", torch.device("cuda:0"))
