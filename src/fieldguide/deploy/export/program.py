"""The graph as a program of `torch.export`, from which all formats are made."""

from typing import TYPE_CHECKING, Any

import torch

from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.runtime import quiet

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
