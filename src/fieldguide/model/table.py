"""The tables that `model.backbone: auto` chooses from: `backbones.csv` and `candidates.csv`, with their sources."""

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    return tuple(KnownBackbone(**row) for row in _rows("backbones.csv"))


@dataclass(frozen=True)
class Candidate:
    """A row of `candidates.csv`, whose head explains the columns; None: not published there."""

    name: str
    parameters: int
    gmacs: float
    image_size_px: int
    top1_percent: float | None
    top1_size_px: int | None
    licence: str


@functools.cache
def candidates() -> tuple[Candidate, ...]:
    """What `model.backbone: auto` measures where the rules do not name other backbones, in the order of the file."""
    return tuple(Candidate(**row) for row in _rows("candidates.csv"))


def _rows(file: str) -> list[dict[str, Any]]:
    """A table's rows with their numbers; None where a number is not published."""
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [{name: _NUMBERS.get(name, str)(value) if value else None for name, value in row.items()} for row in rows]


_NUMBERS: dict[str, Callable[[str], Any]] = {
    "parameters": int, "gmacs": float, "image_size_px": int, "top1_percent": float, "top1_size_px": int,
}  # fmt: skip
