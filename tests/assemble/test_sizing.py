import pytest
import torch

from fieldguide import assemble
from fieldguide.assemble.sizing import fit
from fieldguide.model.classifier import Classifier, make_classifier
from fieldguide.recipe.load import read_recipe
from fieldguide.training.memory import Fit, Meter

BASE = (
    *("model.backbone=test_resnet", "model.weights=none", "rules.backbones=null", "data.image_size_px=32"),
    "training.batch_size=16",
)
EACH = 1_000


@pytest.fixture
def meter(monkeypatch):
    """Of a device on which each photo that goes through the network at once takes some bytes."""
    seen, forward = [], Classifier.forward

    def counting(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", counting)
    return Meter(lambda: 10 * EACH, seen.clear, lambda: EACH * max(seen))


def made(*settings):
    recipe = assemble.resolved(read_recipe("resnet50-adam", [*BASE, *settings]))
    return make_classifier(assemble.architecture(recipe, 3)), recipe


@pytest.mark.parametrize("execution", ["exact", "fast"])
def test_a_step_on_the_device_decides_and_leaves_the_network_as_it_is(meter, execution):
    model, recipe = made(f"execution={execution}")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fit(model, recipe, "fp32", 16, meter) == Fit(8, 8 * EACH)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_processes_that_share_a_batch_split_it_only_where_their_part_does_not_fit(meter):
    model, recipe = made()
    assert fit(model, recipe, "fp32", 8, meter) == Fit(16, 8 * EACH)
    assert fit(model, recipe, "fp32", 15, meter) == Fit(8, 8 * EACH)


def test_a_number_in_the_recipe_stays_and_is_measured_only_where_photos_may_lie_beside_it(meter):
    model, recipe = made("training.micro_batch_size=4")
    assert fit(model, recipe, "fp32", 16, meter) == Fit(4, 0)
    assert fit(model, recipe, "fp32", 16, meter, is_needed=True) == Fit(4, 4 * EACH)
    assert fit(model, recipe, "fp32", 16, None, is_needed=True) == Fit(4, 0)


@pytest.mark.parametrize("phase", ["{augmentation: strong}", "{trainable: head}", "{method: probe}"])
def test_any_phase_can_be_measured(meter, phase):
    model, recipe = made(f"training.phases=[{phase}]", "training.batch_size=8", "model.head=linear")
    assert fit(model, recipe, "fp32", 8, meter).photos == 8
