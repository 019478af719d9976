"""The table of backbones that `model.backbone: auto` chooses from, as it stands in `backbones.csv` with its source."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownBackbone:
    """A row.

    Attributes:
        name: timm's.
        parameters: without a classifier.
        gmacs: giga-multiply-accumulates of a photo's forward pass at `image_size_px`.
        image_size_px: of its pretraining.
        top1_percent: published accuracy on ImageNet-1k's validation photos.
        top1_size_px: where that was measured.
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
