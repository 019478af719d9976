"""Photos with more than 8 bits a channel: what range their values have, and how they become 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fieldguide.data.read.reading import Range, ValueRange

Array = npt.NDArray[Any]
Kind = Literal["integers", "floats"]
DEPTHS = (8, 10, 12, 14, 16, 20, 24, 32)
FLOAT_WHITES = (1.0, 255.0, 1_023.0, 4_095.0, 16_383.0, 65_535.0)
OVERSHOOT = 1.1  # what resampling adds to floats
DARKEST = 1 / 4  # of a float's white that the brightest value of all photos reaches
MOST_SAMPLED = 1_000_000
QUANTILES = np.linspace(0, 1, 201)
ROWS_OF_PIXELS = 2_000_000


@dataclass(frozen=True)
class Values:
    """The values of a photo with more than 8 bits, or of several; `quantiles` are at `QUANTILES`, or empty."""

    kind: Kind
    low: float
    high: float
    quantiles: tuple[float, ...] = ()


def is_deep(array: Array) -> bool:
    """Whether an array has more than 8 bits a value."""
    return array.dtype.kind == "f" or array.dtype.itemsize > 1


def measured(array: Array, *, with_quantiles: bool = False) -> Values | None:
    """The range of an array's values; None if some are no numbers."""
    kind: Kind = "floats" if array.dtype.kind == "f" else "integers"
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        return None
    quantiles: tuple[float, ...] = ()
    if with_quantiles:
        flat = array.reshape(-1)
        sample = flat[:: max(1, len(flat) // MOST_SAMPLED)]
        quantiles = tuple(np.quantile(sample.astype(np.float64), QUANTILES).tolist())
    return Values(kind, low, high, quantiles)


def depth(values: Values) -> Range | None:
    """The range that a bit depth explains these values with; None if none does."""
    if values.kind == "integers":
        whites: Sequence[float] = [2.0**bits - 1 for bits in DEPTHS]
        return next(((0.0, white) for white in whites if values.low >= 0 and values.high <= white), None)
    for white in FLOAT_WHITES:
        if values.high <= white * OVERSHOOT:
            fits = -(OVERSHOOT - 1) * white <= values.low
            return (0.0, white) if fits and (white == 1 or values.high > white * DARKEST) else None
    return None


def own_range(values: Values) -> ValueRange:
    """A photo's range by its own values alone, to look at it."""
    low, high = depth(values) or (values.low, max(values.high, values.low + 1e-9))
    return ValueRange((low, high), (low, high))


def is_outside(values: Values, value_range: Range) -> bool:
    """Whether some values are clipped; what rounds to black or white is not."""
    low, high = value_range
    slack = 0.5 * (high - low) / 255
    return values.low < low - slack or values.high > high + slack


def to_8_bits(array: Array, value_range: Range) -> npt.NDArray[np.uint8]:
    """Values to 0 to 255, rows at a time so that memory stays bounded; the range's ends are black and white."""
    low, high = value_range
    made = np.empty(array.shape, np.uint8)
    rows = max(1, ROWS_OF_PIXELS // max(1, array[0].size))
    for top in range(0, len(array), rows):
        scaled = (array[top : top + rows].astype(np.float64) - low) * (255 / (high - low))
        made[top : top + rows] = np.clip(np.rint(scaled), 0, 255)
    return made


def bits_of(value_range: Range) -> str:
    """A range in words: `12 bits (0 to 4,095)`, or `0 to 1`."""
    low, high = value_range
    bits = next((bits for bits in DEPTHS if high == 2.0**bits - 1 and low == 0), None)
    plain = f"{low:,.6g} to {high:,.6g}" if abs(high) < 100_000 else f"{low:,.0f} to {high:,.0f}"
    return plain if bits is None or high == 1 else f"{bits} bits ({plain})"
