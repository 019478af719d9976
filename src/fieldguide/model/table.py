"""The table of backbones that `model.backbone: auto` chooses from, as it stands in `backbones.csv` with its source."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBackbone:
    """A row, by timm's name; its parameters are without a classifier.

    `gmacs` are giga-multiply-accumulates of a forward pass at `image_size_px`, the size of the pretraining.
    `top1_percent` is the published accuracy on ImageNet-1k's validation photos, measured at `top1_size_px`.
    """

    name: str
    parameters: int
    gmacs: float
    image_size_px: int
    top1_percent: float
    top1_size_px: int

    def gmacs_at(self, size_px: int) -> float:
        """At another size; convolutions cost in proportion to the area."""
        return self.gmacs * (size_px / self.image_size_px) ** 2


@functools.cache
def known_backbones() -> tuple[KnownBackbone, ...]:
    """All rows, in the order of the file."""
    text = Path(__file__).with_name("backbones.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        KnownBackbone(
            name=row["name"],
            parameters=int(row["parameters"]),
            gmacs=float(row["gmacs"]),
            image_size_px=int(row["image_size_px"]),
            top1_percent=float(row["top1_percent"]),
            top1_size_px=int(row["top1_size_px"]),
        )
        for row in rows
    )
