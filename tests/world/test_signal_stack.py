"""The stack for signals: OpenVINO's would be freed under the next Ctrl-C."""

import ctypes
import gc
import sys

import pytest

from fieldguide.world.signal_stack import _Stack, signal_stack_kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's stack for signals")
DISABLED = 2


def stack_now():
    """Where this thread takes signals; None: on its usual stack."""
    found = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return None if found.flags & DISABLED else (found.place, found.size)


@pytest.fixture
def other_stack():
    """A function that puts another stack in place; the thread's own is back afterwards."""
    room = ctypes.create_string_buffer(1 << 16)
    with signal_stack_kept():
        yield lambda: ctypes.CDLL(None).sigaltstack(
            ctypes.byref(_Stack(ctypes.cast(room, ctypes.c_void_p).value, 0, len(room))), None
        )


def test_a_stack_that_is_replaced_inside_comes_back_also_after_an_error(other_stack):
    before = stack_now()
    with pytest.raises(KeyError), signal_stack_kept():
        assert other_stack() == 0 and stack_now() != before
        raise KeyError
    assert stack_now() == before


def test_networks_of_openvino_leave_it_alone_in_whatever_order_they_go(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs pip install 'fieldguide[openvino]'")
    import openvino
    import torch

    from fieldguide.deploy.openvino_engine import Openvino
    from fieldguide.model.architecture import Architecture
    from fieldguide.model.classifier import make_classifier

    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path))
    before, cpu = stack_now(), torch.device("cpu")
    classifier = make_classifier(Architecture("test_resnet", "linear", None, 0.0, 2)).eval()
    made = [Openvino(classifier, cpu, 1, 32) for _ in range(2)]  # the second as it was kept
    assert stack_now() == before and openvino.__version__
    made.pop(0)
    gc.collect()
    made.clear()
    gc.collect()
    assert stack_now() == before
