"""How a file becomes RGB pixels: plain data that a recipe decides once and a bundle keeps."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fieldguide.errors import UsageError

Range = tuple[float, float]
Fit = Literal["crop", "pad", "squash"]
Alpha = Literal["white", "ignore"]
MOST_BANDS = 1_024


@dataclass(frozen=True)
class ValueRange:
    """Which values of a photo with more than 8 bits become black and white; those beyond are clipped.

    None: no training photo has such values, and nobody said a range; then it is `FULL`.
    """

    integers: Range | None = None
    floats: Range | None = None

    def of(self, kind: str) -> Range:
        """The range of `integers` or `floats`."""
        return self.to_dict().get(kind, FULL[kind])

    def is_known(self, kind: str) -> bool:
        """Whether training photos or a person decided the range of `integers` or `floats`."""
        return kind in self.to_dict()

    def to_dict(self) -> dict[str, Range]:
        """The known ranges as plain data."""
        pairs = (("integers", self.integers), ("floats", self.floats))
        return {kind: known for kind, known in pairs if known is not None}


FULL: Mapping[str, Range] = {"integers": (0.0, 65_535.0), "floats": (0.0, 1.0)}
UNDECIDED = ValueRange()


@dataclass(frozen=True)
class Reading:
    """How files are read, the same for training, validation and prediction.

    Attributes:
        max_megapixels: a larger photo is unreadable.
        value_range: black and white of photos with more than 8 bits; None: of each photo by its own values, which is
            for looking at photos and never for a network.
        bands: numbers of three bands, from 1, for photos with more than three; None: such photos are unreadable.
        alpha: `white`: transparency is laid on white; `ignore`: a TIFF's alpha band is left out.
        fit: `crop`: the photo keeps its shape; `pad`: gray bars make it square; `squash`: it is squeezed into a square.
    """

    max_megapixels: float = 200
    value_range: ValueRange | None = UNDECIDED
    bands: tuple[int, int, int] | None = None
    alpha: Alpha = "white"
    fit: Fit = "crop"

    def to_dict(self) -> dict[str, Any]:
        """The range, and what else differs from the defaults, without the bound on pixels, as plain data."""
        value_range = None if self.value_range is None else self.value_range.to_dict()
        plain = (asdict(self) | {"value_range": value_range}).items()
        return {
            name: _as_lists(value)
            for name, value in plain
            if name == "value_range" or (name != "max_megapixels" and value != getattr(Reading(), name))
        }

    def key(self) -> str:
        """A short text that differs where pixels may; empty for the defaults."""
        plain = self.to_dict() | {"value_range": self._ranges()}
        if plain == Reading().to_dict() | {"value_range": Reading()._ranges()}:
            return ""
        return hashlib.sha256(repr(sorted(plain.items())).encode()).hexdigest()[:8]

    def _ranges(self) -> Any:
        return None if self.value_range is None else {kind: list(self.value_range.of(kind)) for kind in FULL}

    @classmethod
    def of_recipe(cls, data: Mapping[str, Any]) -> "Reading":
        """From the fields of a recipe's `data`; where range or alpha are not settled yet, the defaults."""
        found = data["value_range"]
        plain = found if isinstance(found, Mapping) and "percentiles" not in found else {}
        if isinstance(found, tuple):
            plain = {"integers": found, "floats": found}
        alpha = "white" if data["alpha"] == "auto" else data["alpha"]
        own = {"value_range": plain, "bands": data["bands"], "alpha": alpha, "fit": data["fit"]}
        return cls.from_dict(own, data["max_megapixels"])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], max_megapixels: float = 200) -> "Reading":
        """From plain data; what is missing has its default.

        Raises:
            UsageError: a field is out of its limits.
        """
        bands = data.get("bands")
        try:
            ranges = data.get("value_range") or {}
            made = cls(
                max_megapixels,
                ValueRange(**{kind: _range(value) for kind, value in ranges.items()}),
                None if bands is None else _bands(bands),
                data.get("alpha", "white"),
                data.get("fit", "crop"),
            )
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"preprocessing: value_range or bands is damaged ({str(error)[:80]})") from None
        if made.alpha not in ("white", "ignore") or made.fit not in ("crop", "pad", "squash"):
            raise UsageError("preprocessing: alpha must be white or ignore, and fit must be crop, pad or squash")
        return made


AnyReading = Reading | float  # a number: the defaults with that many megapixels


def as_reading(reading: AnyReading) -> Reading:
    """A reading, given itself or its most megapixels."""
    return reading if isinstance(reading, Reading) else Reading(max_megapixels=reading)


def _range(value: Any) -> Range:
    low, high = (float(each) for each in value)
    if not -1e300 < low < high < 1e300:
        raise ValueError(f"{value} is no range")
    return low, high


def _bands(value: Any) -> tuple[int, int, int]:
    first, second, third = (int(each) for each in value)
    if not all(1 <= each <= MOST_BANDS for each in (first, second, third)):
        raise ValueError(f"{value} are no bands")
    return first, second, third


def _as_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _as_lists(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value
