"""The network by OpenVINO on a CPU. The only one that knows OpenVINO, an extra: pip install 'fieldguide[openvino]'."""

import contextlib
import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from fieldguide.deploy.engines import Engine, InPieces, Logits, precision
from fieldguide.deploy.kept_networks import KeptNetworks, key_of
from fieldguide.model.classifier import Classifier
from fieldguide.world import describe_machine
from fieldguide.world.signal_stack import signal_stack_kept


def problem_with_openvino(device: torch.device) -> str | None:
    """Why OpenVINO cannot serve here, as a sentence; None if it can."""
    if device.type != "cpu":
        return f"OpenVINO runs on a CPU, and the device is {device}"
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install 'fieldguide[openvino]'"
    return None


@final
class Openvino(Engine):
    """The network converted and compiled by OpenVINO, for batches of exactly `batch_size`.

    In bf16 where the processor multiplies it natively, else in fp32. What was compiled is kept in the user's cache
    folder, so the next command neither traces nor converts the network.
    """

    @signal_stack_kept()
    def __init__(self, classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> None:
        import openvino as ov

        self.batch_size = batch_size
        hint = "bf16" if precision(device) is torch.bfloat16 else "f32"
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        shape = [batch_size, 3, image_size_px, image_size_px]
        kept, core = KeptNetworks.of_user(), ov.Core()
        about = {"by": ov.__version__, "settings": settings, "shape": shape, "machine": describe_machine(device)}
        key = key_of(classifier, about)
        if (content := kept.read(key)) is not None:
            with contextlib.suppress(RuntimeError):  # made by another build of OpenVINO
                self._network = core.import_model(io.BytesIO(content), "CPU", settings)
                return
        self._network = core.compile_model(_converted(classifier.cpu().eval(), shape), "CPU", settings)
        kept.keep(key, self._network.export_model().getvalue())

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        logits: Logits = self._network(images.contiguous().numpy(), share_inputs=True)[0]
        return logits


def openvino(classifier: Classifier, device: torch.device, batch_size: int, image_size_px: int) -> Engine:
    """`Openvino`, for any number of images."""
    first = Openvino(classifier, device, batch_size, image_size_px)
    return InPieces(first, lambda size: Openvino(classifier, device, size, image_size_px))


def _converted(classifier: Classifier, shape: list[int]) -> Any:
    """The network as OpenVINO's model, through its PyTorch frontend.

    `openvino.convert_model` would report to its makers what was converted, without being asked to.
    """
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad():
        try:
            decoder = _exported(classifier, shape)  # with a name, since OpenVINO calls it without owning it
            return frontend.convert(frontend.load(decoder))
        except Exception:  # an operation that OpenVINO knows in TorchScript alone, such as a ViT's resized positions
            return _by_torchscript(classifier, shape, frontend)


def _exported(classifier: Classifier, shape: list[int]) -> Any:
    """The network by `torch.export`, as every export is made; for `shape` alone."""
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export import export
    from torch.export.decomp_utils import CustomDecompTable

    table: Any = CustomDecompTable()  # type: ignore[no-untyped-call]
    for operation in ops_to_not_decompose():
        with contextlib.suppress(KeyError):  # of an older torch, or a newer one
            table.pop(operation)
    program = export(classifier, (torch.zeros(shape),)).run_decompositions(table)
    return TorchFXPythonDecoder(program.module(), dynamic_shapes=False)


def _by_torchscript(classifier: Classifier, shape: list[int], frontend: Any) -> Any:
    """By `torch.jit`, which torch is about to leave."""
    import openvino as ov
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # Not inside catch_warnings: threads that decode photos have the filters open as well.
    warnings.filterwarnings("ignore", r"`torch\.jit\.", category=FutureWarning)  # OpenVINO's way in, not ours
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
    example = torch.zeros(2, *shape[1:])  # tracing computes it four times, so a whole batch would take seconds
    decoder = TorchScriptPythonDecoder(classifier, example_input=(example,))
    model = frontend.convert(frontend.load(decoder))
    model.reshape({model.input(0): ov.PartialShape(shape)})
    return model


@dataclass(frozen=True)
class Int8File:
    """An export in int8 of the same bundle, which was proven to lose less than a point of accuracy.

    Attributes:
        file: OpenVINO's IR.
        start: its tensor of resized pixels, (batch, 3, side, side) float of 0 to 255.
        mean, std: by which an engine's images were normalised.
        temperature: by which its logits were divided.
    """

    file: Path
    start: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temperature: float


@final
class Int8(Engine):
    """An export in int8 from its resized pixels on, for batches of exactly `batch_size`.

    Normalisation, mirror images, temperature and softmax are inside of it. So its logits are the logarithms of its
    probabilities, times the temperature: the network's but for one number per photo, which softmax ignores.
    """

    @signal_stack_kept()
    def __init__(self, made: Int8File, batch_size: int, image_size_px: int) -> None:
        import openvino as ov

        self.batch_size = batch_size
        self._mean, self._std = (torch.tensor(each).view(3, 1, 1) for each in (made.mean, made.std))
        self._temperature = made.temperature
        model = ov.Core().read_model(str(made.file))
        start = next(out for each in model.get_ops() for out in each.outputs() if made.start in out.get_names())
        pixels = ov.opset13.parameter([batch_size, 3, image_size_px, image_size_px], ov.Type.f32)
        for reader in start.get_target_inputs():
            reader.replace_source_output(pixels.output(0))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._network = ov.Core().compile_model(ov.Model(model.get_results(), [pixels]), "CPU", settings)

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        pixels = ((images * self._std + self._mean) * 255).round()  # as they were before they were normalised
        probabilities = np.maximum(self._network(pixels.numpy())[0], np.finfo(np.float32).tiny)
        logits: Logits = np.log(probabilities) * np.float32(self._temperature)
        return logits


def int8(made: Int8File, batch_size: int, image_size_px: int) -> Engine:
    """`Int8`, for any number of images."""
    return InPieces(Int8(made, batch_size, image_size_px), lambda size: Int8(made, size, image_size_px))
