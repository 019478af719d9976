"""ONNX files and ONNX Runtime. The only one that knows them; an extra: pip install 'fieldguide[export]'."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from fieldguide.deploy.export.int8 import Calibration, quantized
from fieldguide.deploy.export.runtime import INPUT, KEY, OUTPUT, PIXELS, Runtime, as_text, from_text, quiet

if TYPE_CHECKING:
    from torch.export import ExportedProgram

AXES = {0: "batch", 1: "height", 2: "width"}
WRITER = "fieldguide"
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it was in


def write_onnx(program: "ExportedProgram", path: Path, about: Mapping[str, Any]) -> None:
    """Writes one file that holds everything, and has ONNX's checker look at it."""
    import torch

    loud = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        with quiet():
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], external_data=False
            )
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
    assert made is not None
    model = made.model_proto
    _name(model)
    _save(model, path, about)


def quantize_onnx(source: Path, target: Path, about: Mapping[str, Any], calibration: Calibration) -> None:
    """Writes a file of `write_onnx` once more, its network in int8."""
    import onnx

    model = quantized(onnx.load_model(source), _before_the_network, _answers, calibration)
    _save(model, target, about)


def _save(model: Any, path: Path, about: Mapping[str, Any]) -> None:
    import onnx

    model.producer_name, model.producer_version = WRITER, str(about["fieldguide_version"])
    del model.metadata_props[:]
    told = {KEY: as_text(about)} | {name: str(about[name]) for name in ("licence", "color", "takes")}
    for name, value in told.items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


def _before_the_network(model: Any) -> list[str]:
    """Names of the nodes that make the resized pixels, from which a network begins."""
    makes = {name: node for node in model.graph.node for name in node.output}
    waiting, found = [name for name in makes if name.startswith(PIXELS)], set()
    while waiting:
        node = makes.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return sorted(found)


def _answers(model: Any) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """A model in memory as what computes probabilities."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda photos: session.run([OUTPUT], {INPUT: photos})[0]


def _name(model: Any) -> None:
    """Gives the output, the resized pixels and the free sizes names that a reader understands."""
    renamed = {model.graph.output[0].name: OUTPUT, model.graph.input[0].name: INPUT}
    last: dict[str, str] = {}
    for node in model.graph.node:  # the last one of each resize
        scopes = next((each.value for each in node.metadata_props if each.key == SCOPES), "")
        if resize := re.match(r"\['', 'resizes\.(\d+)'", scopes):
            last[resize[1]] = node.output[0]
    renamed |= {name: f"{PIXELS}{number}" for number, name in last.items()}
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = renamed.get(name, name)
    model.graph.output[0].name, model.graph.input[0].name = OUTPUT, INPUT
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    for place, dimension in enumerate(sizes):
        if dimension.dim_param:
            dimension.dim_param = AXES[place]
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = AXES[0]
    del model.graph.value_info[:]  # which have the old names of sizes


@final
class OnnxRuntime(Runtime):
    """An ONNX file by ONNX Runtime on a CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.about = from_text(self._session.get_modelmeta().custom_metadata_map.get(KEY), str(path))

    def compute(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Runtime`."""
        answers: npt.NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: photos})[0]
        return answers
