"""Each engine against the plain one, at any number of images."""

import numpy as np
import pytest
import torch
from torch import nn

from fieldguide.deploy.engines import FoldedNetwork, InPieces, Plain
from fieldguide.deploy.serving import NAMES, OFFERS, TOLERANCE, demand_engine, relative_difference
from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.batch_norm import FrozenBatchNorm
from fieldguide.model.classifier import Classifier, make_classifier
from tests.deploy.made_up import Computes
from tests.model.own_backbone import OwnBackbone

CPU = torch.device("cpu")
SIDE, BATCH = 32, 4


@pytest.fixture(params=["last", "stages"])
def classifier(request):
    """A small residual network whose batch normalisation has statistics of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = make_classifier(Architecture("test_resnet", "bottleneck", 16, 0.3, 5, request.param)).train()
        with torch.no_grad():
            for _ in range(5):
                made(torch.randn(16, 3, SIDE, SIDE) * 2 + 1)
        return made.eval()


@pytest.fixture
def images():
    return torch.randn(11, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFERS)
def test_an_engine_agrees_with_the_plain_one_and_takes_any_number_of_images(name, classifier, images):
    if problem := OFFERS[name].problem(CPU):
        pytest.skip(problem)
    expected = Plain(classifier, CPU).compute(images)
    engine = OFFERS[name].make(classifier, CPU, BATCH, SIDE)
    assert relative_difference(engine.compute(images), expected) <= TOLERANCE
    few = [engine.compute(images[:count]) for count in (1, 3, 4, 5)]
    engine.ready_for_few()
    few += [engine.compute(images[:count]) for count in (1, 3, 6)]
    for logits in few:
        assert logits.dtype == np.float32
        assert relative_difference(logits, expected[: len(logits)]) <= TOLERANCE
    np.testing.assert_array_equal(Plain(classifier, CPU).compute(images), expected)  # the classifier is as it was


def test_folding_leaves_no_batch_normalisation_and_changes_nothing_but_rounding(classifier, images):
    network = FoldedNetwork(classifier, torch.float32, SIDE)
    assert any(isinstance(part, nn.BatchNorm2d) for part in classifier.backbone.modules())
    assert not any(isinstance(part, nn.BatchNorm2d | FrozenBatchNorm) for part in network.classifier.backbone.modules())
    with torch.inference_mode():
        expected = classifier(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class ReadTwice(nn.Module):
    """A convolution whose output is read beside its batch normalisation, so that it cannot be folded."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.norm.running_var.fill_(9)

    def forward(self, images):
        read = self.conv(images)
        return (self.norm(read) + read).mean((2, 3))


def test_a_backbone_that_cannot_be_folded_computes_as_it_is(images):
    network = Classifier(OwnBackbone(ReadTwice()), nn.Linear(3, 2)).eval()
    copied = FoldedNetwork(network, torch.float32, SIDE)
    assert isinstance(copied.classifier.backbone.norm, nn.BatchNorm2d)
    with torch.inference_mode():
        torch.testing.assert_close(copied(images), network(images), rtol=1e-5, atol=1e-6)


def test_what_fills_a_batch_up_is_in_no_answer():
    seen = []

    def run(images):
        seen.append(images.clone())
        return images.sum(dim=(1, 2, 3)).numpy()[:, None]

    images = torch.arange(1.0, 8.0).view(7, 1, 1, 1)
    answers = InPieces(Computes(run, 3)).compute(images)
    np.testing.assert_array_equal(answers[:, 0], np.arange(1, 8))
    assert [tuple(piece.shape) for piece in seen] == [(3, 1, 1, 1)] * 3 and seen[-1][1:].abs().sum() == 0


def test_an_engine_that_uses_its_memory_again_spoils_no_answer():
    memory = np.zeros((2, 1), dtype=np.float32)

    def run(images):
        memory[:, 0] = images[:, 0, 0, 0].numpy()
        return memory

    answers = InPieces(Computes(run, 2)).compute(torch.arange(4.0).view(4, 1, 1, 1))
    np.testing.assert_array_equal(answers[:, 0], [0, 1, 2, 3])


def test_an_engine_that_there_is_none_of_is_refused_with_the_names_that_there_are():
    with pytest.raises(UsageError, match=r"engine tensorrt: must be one of auto, plain, openvino, folded, compiled"):
        demand_engine("tensorrt", CPU)
    for name in NAMES[:2]:
        demand_engine(name, CPU)


def test_a_missing_extra_is_said_with_what_to_do_and_only_when_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"engine openvino: OpenVINO is not installed: pip install"):
        demand_engine("openvino", CPU)
    demand_engine("auto", CPU)


def test_openvino_is_refused_on_a_gpu():
    with pytest.raises(UsageError, match=r"engine openvino: OpenVINO runs on a CPU, and the device is cuda:0"):
        demand_engine("openvino", torch.device("cuda:0"))


def test_few_images_go_through_smaller_engines_and_nearly_full_ones_are_filled():
    sizes = []

    def engine(size):
        def run(images):
            assert len(images) == size
            sizes.append(size)
            return images.flatten(1).numpy()

        return Computes(run, size)

    images = torch.arange(70.0).view(70, 1, 1, 1)
    made = InPieces(engine(32), engine)
    for count, expected in ((3, [32]), (70, [32] * 3)):
        np.testing.assert_array_equal(made.compute(images[:count])[:, 0], range(count))
        assert sizes == expected
        sizes.clear()
    made.ready_for_few()
    for count, expected in ((1, [1]), (7, [8]), (10, [8, 1, 1]), (28, [32]), (44, [32, 8, 1, 1, 1, 1])):
        np.testing.assert_array_equal(made.compute(images[:count])[:, 0], range(count))
        assert sizes == expected
        sizes.clear()
