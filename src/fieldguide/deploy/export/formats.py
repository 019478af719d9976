"""The formats of an export: what each needs, writes and is run by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldguide.deploy.export.int8 import Calibration
from fieldguide.deploy.export.onnx_file import OnnxRuntime, quantize_onnx, write_onnx
from fieldguide.deploy.export.openvino_file import OpenvinoRuntime, quantize_openvino, write_openvino
from fieldguide.deploy.export.runtime import Runtime, problem_without
from fieldguide.deploy.export.torch_file import TorchRuntime, write_program
from fieldguide.errors import UsageError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

About = Mapping[str, Any]
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Variant:
    """A model in a folder: its files, the first of which its runtime opens.

    Attributes:
        name: `fp32`, `fp16` or `int8`.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        problem: why it cannot be written here, as a sentence; None if it can.
        problem_to_run: why it cannot be run here, which needs fewer packages.
        write: a program, a folder and metadata to the variants that were written, the one that is served first.
        run: opens a variant's first file.
        runtime: the runtime's name.
        quantize: a folder with the format's fp32 variant, metadata and photos to a variant in int8; None: it has none.
    """

    problem: Callable[[], str | None]
    problem_to_run: Callable[[], str | None]
    write: Callable[["ExportedProgram", Path, About], list[Variant]]
    run: Callable[[Path], Runtime]
    runtime: str
    quantize: Callable[[Path, About, Calibration], Variant] | None = None


def _write_torch(program: "ExportedProgram", folder: Path, about: About) -> list[Variant]:
    write_program(program, folder / "model.pt2", about)
    return [Variant("fp32", ("model.pt2",))]


def _write_onnx(program: "ExportedProgram", folder: Path, about: About) -> list[Variant]:
    write_onnx(program, folder / "model.onnx", about)
    return [Variant("fp32", ("model.onnx",))]


def _quantize_onnx(folder: Path, about: About, calibration: Calibration) -> Variant:
    quantize_onnx(folder / "model.onnx", folder / "model_int8.onnx", about, calibration)
    return Variant("int8", ("model_int8.onnx",))


def _quantize_openvino(folder: Path, about: About, calibration: Calibration) -> Variant:
    quantize_openvino(folder / "model.xml", folder / "model_int8.xml", about, calibration)
    return Variant("int8", ("model_int8.xml", "model_int8.bin"))


def _write_openvino(program: "ExportedProgram", folder: Path, about: About) -> list[Variant]:
    way = folder / "on_the_way.onnx"
    write_onnx(program, way, about)
    for name, halved in (("model", False), ("model_fp16", True)):
        write_openvino(way, folder / f"{name}.xml", about, halved=halved)
    way.unlink()
    return [Variant("fp32", ("model.xml", "model.bin")), Variant("fp16", ("model_fp16.xml", "model_fp16.bin"))]


def _problem_with_openvino() -> str | None:
    return problem_without((*ONNX_PACKAGES, "openvino"), "export,openvino", "--format openvino")


FORMATS = {
    "onnx": Format(
        lambda: problem_without(ONNX_PACKAGES, "export", "--format onnx"),
        lambda: problem_without(("onnxruntime",), "export", "an export for ONNX Runtime"),
        _write_onnx,
        OnnxRuntime,
        "ONNX Runtime",
        _quantize_onnx,
    ),
    "openvino": Format(
        _problem_with_openvino,
        lambda: problem_without(("openvino",), "openvino", "an export for OpenVINO"),
        _write_openvino,
        OpenvinoRuntime,
        "OpenVINO",
        _quantize_openvino,
    ),
    "torch": Format(lambda: None, lambda: None, _write_torch, TorchRuntime, "torch"),
}
MISSING = {  # asked for, and why there is none
    "litert": (
        "litert-torch needs older versions of torch's companions (pydantic, typing_extensions) than fieldguide runs "
        "with. Export with --format onnx --input resized, and convert that file in an environment of its own"
    ),
    "coreml": (
        "coremltools does not support the torch in use yet, and Core ML models run on a Mac alone, so no proof could "
        "be made here. Use --format onnx: ONNX Runtime has a Core ML provider"
    ),
}


def demand_format(name: str, *, to_run: bool = False) -> Format:
    """The format of that name; `to_run`: its files are there already.

    Raises:
        UsageError: no such format, or a package is missing; the message says what to do.
    """
    if name in MISSING:
        raise UsageError(f"--format {name}: is not supported: {MISSING[name]}")
    if name not in FORMATS:
        raise UsageError(f"--format {name}: must be one of {', '.join((*FORMATS, 'web'))}")
    found = FORMATS[name]
    if problem := found.problem_to_run() if to_run else found.problem():
        raise UsageError(problem)
    return found
