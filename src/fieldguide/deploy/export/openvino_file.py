"""OpenVINO's files in their own runtime; an extra: pip install 'fieldguide[export,openvino]'."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from fieldguide.deploy.export.int8 import Calibration, quantized
from fieldguide.deploy.export.runtime import INPUT, KEY, OUTPUT, PIXELS, Runtime, as_text, from_text
from fieldguide.world.signal_stack import signal_stack_kept


def write_openvino(onnx_file: Path, path: Path, about: Mapping[str, Any], *, halved: bool) -> None:
    """Writes the IR (`.xml` and `.bin`) of an ONNX file; if `halved`, with weights in fp16.

    OpenVINO's core reads the ONNX file: `openvino.convert_model` would report to its makers what was converted.
    """
    import openvino

    model = openvino.Core().read_model(str(onnx_file))
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    model.set_rt_info(as_text(about), [KEY])
    openvino.save_model(model, str(path), compress_to_fp16=halved)


def quantize_openvino(source: Path, target: Path, about: Mapping[str, Any], calibration: Calibration) -> None:
    """Writes an IR of `write_openvino` once more, its network in int8."""
    import openvino

    model = quantized(openvino.Core().read_model(str(source)), _before_the_network, _answers, calibration)
    model.set_rt_info(as_text(about), [KEY])
    openvino.save_model(model, str(target), compress_to_fp16=False)


def _before_the_network(model: Any) -> list[str]:
    """Names of the operations that make the resized pixels, from which a network begins."""
    waiting = [
        each for each in model.get_ops() for out in each.outputs() if any(n.startswith(PIXELS) for n in out.get_names())
    ]
    found = set()
    while waiting:
        operation = waiting.pop()
        if operation.get_friendly_name() not in found:
            found.add(operation.get_friendly_name())
            waiting += [each.get_source_output().get_node() for each in operation.inputs()]
    return sorted(found)


def _answers(compiled: Any) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """A compiled model as what computes probabilities."""
    return lambda photos: np.array(compiled(photos)[0])


@final
class OpenvinoRuntime(Runtime):
    """An IR by OpenVINO on a CPU, computed in fp32: the resize has no room for rounded numbers."""

    @signal_stack_kept()
    def __init__(self, path: Path) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        told = model.get_rt_info([KEY]) if model.has_rt_info([KEY]) else None
        self.about = from_text(None if told is None else str(told.value), str(path))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._network = core.compile_model(model, "CPU", settings)

    def compute(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Runtime`."""
        return np.array(self._network(photos)[0])  # a copy, since its memory is used again
