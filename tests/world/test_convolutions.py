import pytest
import torch

from fieldguide.world.convolutions import convolutions


def modes():
    return torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic


@pytest.mark.parametrize(("execution", "inside"), [("fast", (True, False)), ("exact", (False, True))])
def test_fast_times_algorithms_and_exact_takes_one_that_repeats(execution, inside):
    before = modes()
    with pytest.raises(ZeroDivisionError), convolutions(execution):
        assert modes() == inside
        _ = 1 / 0
    assert modes() == before
