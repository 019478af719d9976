"""The graph as a program of `torch.export`, from which all formats are made, and its own file."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.runtime import KEY, Runtime, as_text, from_text

if TYPE_CHECKING:
    from torch.export import ExportedProgram

EXAMPLE_PX = (97, 123)  # of the photo that is traced; any other size gives the same program


def traced(graph: Graph, side_px: int) -> "ExportedProgram":
    """The graph for any number of photos; of any size, or of `side_px` where it takes resized ones."""
    from torch.export import Dim, export  # slow to import, and not for predictions by another runtime

    sizes: dict[int, Any] = {1: Dim.DYNAMIC, 2: Dim.DYNAMIC} if graph.resizes else {}
    height, width = EXAMPLE_PX if graph.resizes else (side_px, side_px)
    example = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    with quiet(), torch.no_grad():
        return export(graph.eval(), (example,), dynamic_shapes=({0: Dim.DYNAMIC, **sizes},))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of a converter about its own parts; what it does is held against the trained model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_program(program: "ExportedProgram", path: Path, about: Mapping[str, Any]) -> None:
    """Writes a `.pt2` that torch alone loads, with the metadata beside it inside."""
    with quiet():
        torch.export.save(program, path, extra_files={KEY: as_text(about)})


@final
class TorchRuntime(Runtime):
    """A `.pt2` by torch on a CPU."""

    def __init__(self, path: Path) -> None:
        extra = {KEY: ""}
        with quiet():
            # a path as text: torch 2.14 opens a Path with os.PathLike alone
            self._network = torch.export.load(os.fspath(path), extra_files=extra).module()
        self.about = from_text(extra[KEY], str(path))

    def compute(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Runtime`."""
        with torch.inference_mode():
            answers: npt.NDArray[np.float32] = self._network(torch.from_numpy(photos)).numpy()
        return answers
