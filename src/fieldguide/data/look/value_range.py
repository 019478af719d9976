"""What photos with more than 8 bits use of their range, and the one range that a data set is read with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import Finding, Kind, some
from fieldguide.data.read.deep import QUANTILES, Values, bits_of, depth, is_outside
from fieldguide.data.read.deep import Kind as ValueKind
from fieldguide.data.read.reading import FULL, Range, ValueRange
from fieldguide.errors import PhotosError, counted

KINDS: tuple[ValueKind, ...] = get_args(ValueKind)
FAR_APART = 16  # times: a photo whose own white is so far below that of all is nearly black
BAND_LIKE = 0.5  # an alpha band with less that is transparent or opaque is no transparency


@dataclass(frozen=True)
class Measured:
    """What the training photos' values are, for those that decide; empty where all have 8 bits.

    `all` has a `Values` a kind, `photos` how many photos that is, `has_bands` whether every photo is a TIFF with an
    alpha band that is no transparency.
    """

    all: tuple[Values, ...] = ()
    photos: int = 0
    has_bands: bool = False

    def of(self, kind: ValueKind) -> Values | None:
        """The values of a kind, if photos have such."""
        return next((values for values in self.all if values.kind == kind), None)


def measure(facts: Sequence[Facts]) -> Measured:
    """The values of all readable training photos together."""
    train = [entry for entry in facts if entry.photo.part == "train" and not entry.reason]
    deep = [entry.values for entry in train if entry.values is not None]
    shares = [entry.mask_share for entry in train]
    known = [share for share in shares if share is not None]
    has_bands = len(known) == len(shares) > 0 and float(np.median(known)) < BAND_LIKE
    return Measured(tuple(_together(deep, kind) for kind in KINDS if _of(deep, kind)), len(deep), has_bands)


def _of(found: Sequence[Values], kind: ValueKind) -> list[Values]:
    return [values for values in found if values.kind == kind]


def _together(found: Sequence[Values], kind: ValueKind) -> Values:
    """Quantiles of all photos' quantiles, each photo counting the same."""
    own = _of(found, kind)
    pooled = np.concatenate([values.quantiles for values in own])
    quantiles = tuple(np.quantile(pooled, QUANTILES).tolist()) if len(pooled) else ()
    return Values(kind, min(values.low for values in own), max(values.high for values in own), quantiles)


def decide(asked: Any, measured: Measured) -> ValueRange:
    """The range of a recipe's `data.value_range`; kinds that no training photo has are not decided.

    Raises:
        PhotosError: `auto`, and no bit depth explains the values.
    """
    if isinstance(asked, tuple):
        return ValueRange(asked, asked)
    found: dict[ValueKind, Range] = {}
    if isinstance(asked, dict) and "percentiles" not in asked:  # what a training settled, of the photos that it had
        found |= asked
    for values in measured.all:
        if values.kind in found:
            continue
        if isinstance(asked, dict) and "percentiles" in asked:
            low, high = (float(np.interp(each / 100, QUANTILES, values.quantiles)) for each in asked["percentiles"])
            found[values.kind] = (low, high if high > low else low + 1)
        elif (own := depth(values)) is not None:
            found[values.kind] = own
        else:
            raise PhotosError(undecided(values))
    return ValueRange(**found)


def undecided(values: Values) -> str:
    """That no bit depth explains the values."""
    what = "floats" if values.kind == "floats" else "integers"
    return (
        f"the training photos hold {what} from {values.low:,.6g} to {values.high:,.6g}, and no bit depth explains "
        f"these; say what is black and white, such as --set data.value_range=[{values.low:.6g},{values.high:.6g}]"
    )


def sentences(asked: Any, measured: Measured, chosen: ValueRange) -> list[str]:
    """What the photos with more than 8 bits are read with, for the screen."""
    if not measured.all:
        return []
    ranges = [f"{values.kind} as {bits_of(chosen.of(values.kind))}" for values in measured.all]
    how = "by the values of all training photos" if asked == "auto" else "as data.value_range says"
    return [f"{counted(measured.photos, 'training photo')} with more than 8 bits: {' and '.join(ranges)}, {how}"]


def in_words(measured: Measured) -> str:
    """What `auto` makes of the training photos' values; empty where none has more than 8 bits."""
    found = [(values.kind, depth(values)) for values in measured.all]
    return " and ".join(f"{kind} as {bits_of(own)}" for kind, own in found if own is not None)


def clipped(facts: Sequence[Facts], chosen: ValueRange) -> list[Facts]:
    """The photos with values outside the range."""
    deep = ((entry, entry.values) for entry in facts if entry.values is not None)
    return [entry for entry, values in deep if is_outside(values, chosen.of(values.kind))]


def range_findings(facts: Sequence[Facts]) -> list[Finding]:
    """Photos that a range of the whole training part would read wrongly, and a range that cannot be decided."""
    measured = measure(facts)
    found = [_foreign(deep, kind) for kind in KINDS if (deep := _only_elsewhere(facts, measured, kind))]
    for values in measured.all:
        deep = [entry for entry in facts if entry.values is not None and entry.values.kind == values.kind]
        own = depth(values)
        if own is None:
            found.append(_finding(deep, undecided(values)))
            continue
        apart = [entry for entry in deep if _is_apart(entry, own)]
        if apart:
            lines = some([f"{entry.photo.file} ({_highest(entry)})" for entry in apart])
            message = (
                f"photos of several ranges: together they are read as {bits_of(own)}, which makes these nearly black "
                f"or clips them: {lines}; set data.value_range, or save them with one range"
            )
            found.append(_finding(apart, message))
    return found


def _only_elsewhere(facts: Sequence[Facts], measured: Measured, kind: ValueKind) -> list[Facts]:
    """Photos of val and test with more than 8 bits of a kind that no training photo has."""
    if measured.of(kind) is not None or not any(entry.photo.part == "train" for entry in facts):
        return []
    return [entry for entry in facts if entry.values is not None and entry.values.kind == kind]


def _foreign(entries: Sequence[Facts], kind: ValueKind) -> Finding:
    lines = some([f"{entry.photo.file} ({_highest(entry)})" for entry in entries])
    message = (
        f"photos with more than 8 bits ({kind}), but no training photo has such: they are read as "
        f"{bits_of(FULL[kind])}, which may make them nearly black: {lines}; save them as the training photos are, or "
        "set data.value_range"
    )
    return _finding(entries, message)


def _is_apart(entry: Facts, own: Range) -> bool:
    """Whether a photo by itself would be read with a white far from that of all."""
    assert entry.values is not None
    alone = depth(entry.values)
    if alone is None or alone[1] > own[1]:
        return True
    return alone[1] * FAR_APART <= own[1] + 1 and entry.values.high > 0


def _highest(entry: Facts) -> str:
    assert entry.values is not None
    return f"{entry.values.low:,.6g} to {entry.values.high:,.6g}"


def _finding(entries: Sequence[Facts], message: str) -> Finding:
    parts = tuple(part for part in ("train", "val", "test") if any(entry.photo.part == part for entry in entries))
    classes = tuple(sorted({entry.photo.class_name for entry in entries if entry.photo.class_name is not None}))
    return Finding(Kind.VALUE_RANGES, parts, classes, tuple(entry.photo.file for entry in entries), message)
