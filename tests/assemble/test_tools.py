"""The tools of a recipe: what the optimiser of an `exact` training launches."""

from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fieldguide import assemble
from fieldguide.assemble.tools import make_optimizer_of
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import make_classifier
from fieldguide.recipe.load import read_recipe


class Counting(TorchDispatchMode):
    """Counts operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operations(make):
    """Those of the third step of an optimiser, where torch takes the CPU for a device with its grouped kernels."""
    model = make_classifier(Architecture("test_resnet", "bottleneck", 16, 0.3, 3))
    optimizer = make(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with mock.patch("torch.optim.optimizer._get_foreach_kernels_supported_devices", lambda: ["cuda", "cpu"]):
        for _ in range(2):
            optimizer.step()
        with Counting() as counting:
            optimizer.step()
    return counting.names, len(list(model.parameters()))


def made_of(preset, *settings):
    recipe = assemble.resolved(read_recipe(preset, ["rules.backbones=null", "model.backbone=test_resnet", *settings]))
    return lambda model: make_optimizer_of(recipe)(model, 0.001)


PLAIN = {
    "resnet50-adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.001),
    "resnet50-sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4),
}


@pytest.mark.parametrize("preset", PLAIN)
def test_an_exact_optimiser_dispatches_what_plain_torch_does(preset):
    ours, parameters = operations(made_of(preset))
    theirs, _ = operations(PLAIN[preset])
    assert ours == theirs
    assert any("foreach" in name for name in ours) and len(ours) < 4 * parameters  # else nothing was emulated


def test_a_fast_optimiser_is_one_kernel():
    ours, parameters = operations(made_of("resnet50-adam", "execution=fast"))
    assert sum("_fused_adam_" in name for name in ours) == 1 and len(ours) < parameters
