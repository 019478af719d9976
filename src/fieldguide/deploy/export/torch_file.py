"""A program of `torch.export` as a file, and that file by torch alone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from fieldguide.deploy.export.runtime import KEY, Runtime, as_text, from_text, quiet

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def write_program(program: "ExportedProgram", path: Path, about: Mapping[str, Any]) -> None:
    """Writes a `.pt2` that torch alone loads, with the metadata beside it inside."""
    import torch

    with quiet():
        torch.export.save(program, path, extra_files={KEY: as_text(about)})


@final
class TorchRuntime(Runtime):
    """A `.pt2` by torch on a CPU."""

    def __init__(self, path: Path) -> None:
        import torch

        extra = {KEY: ""}
        with quiet():
            # a path as text: torch 2.14 opens a Path with os.PathLike alone
            self._network = torch.export.load(os.fspath(path), extra_files=extra).module()
        self.about = from_text(extra[KEY], str(path))

    def compute(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Runtime`."""
        import torch

        with torch.inference_mode():
            answers: npt.NDArray[np.float32] = self._network(torch.from_numpy(photos)).numpy()
        return answers
