"""Predictions as Parquet: the columns of the CSV, typed."""

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

ENDING = ".parquet"
ROWS_AT_ONCE = 100_000  # that are Python objects at a time; also the rows of a row group


def is_parquet(target: Path) -> bool:
    """Whether a file's name ends in .parquet, in upper or lower case."""
    return target.suffix.lower() == ENDING


def write_parquet(file: BinaryIO, lines: Iterable[str]) -> None:
    """Writes the lines of a CSV of predictions, heading first.

    Confidences are 64-bit floats, as many digits as in the CSV; all else is text. What a failed photo lacks is null.
    """
    import polars

    rows = _fields(lines)
    heading = next(rows)
    kinds = {name: polars.Float64 if name.startswith("confidence") else polars.String for name in heading}
    frames = [polars.DataFrame(schema=kinds)]
    while piece := list(itertools.islice(rows, ROWS_AT_ONCE)):
        columns = zip(heading, zip(*piece, strict=True), strict=True)
        frames.append(polars.DataFrame({name: _typed(name, fields) for name, fields in columns}, schema=kinds))
    polars.concat(frames, rechunk=True).write_parquet(file, row_group_size=ROWS_AT_ONCE)


def _fields(lines: Iterable[str]) -> Iterator[list[str]]:
    """The fields of each line; a name may have line breaks in it."""
    for line in lines:
        yield next(csv.reader([line], strict=True))


def _typed(name: str, fields: tuple[str, ...]) -> list[Any]:
    if name.startswith("confidence"):
        return [float(text) if text else None for text in fields]
    return [text or None for text in fields]
