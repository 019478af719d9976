"""OpenVINO's files in their own runtime; an extra: pip install 'fieldguide[export,openvino]'."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from fieldguide.deploy.export.runtime import INPUT, KEY, OUTPUT, Runtime, as_text, from_text


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


@final
class OpenvinoRuntime(Runtime):
    """An IR by OpenVINO on a CPU, computed in fp32: the resize has no room for rounded numbers."""

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
