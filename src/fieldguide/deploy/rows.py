"""Writes predictions to a CSV, a Parquet file or a submission."""

import io
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TextIO

from fieldguide.deploy.answers import Prediction
from fieldguide.deploy.parquet import is_parquet, write_parquet
from fieldguide.deploy.unfinished import STDOUT as STDOUT
from fieldguide.deploy.unfinished import Row
from fieldguide.errors import UsageError
from fieldguide.storage import csv_line, replacing

FORMATS = ("csv", "submission")
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # so that the same predictions give the same file


def stem(name: str) -> str:
    """A photo's name without folder and ending, as in a submission."""
    return PurePosixPath(name).stem


def is_zip(target: Path) -> bool:
    """Whether a file's name ends in .zip, in upper or lower case."""
    return target.suffix.lower() == ".zip"


def heading(format: str, top: int) -> str:
    """The first line."""
    if format == "submission":
        return csv_line(("image_name", "pred_label"))
    more = [column for place in range(2, top + 1) for column in (f"label_{place}", f"confidence_{place}")]
    return csv_line(("image", "label", "confidence", "status", *more))


def row_of(name: str, prediction: Prediction, format: str, top: int, written: Callable[[str], str]) -> Row:
    """A photo's row.

    Args:
        name: of the photo.
        written: changes names of photos and classes; not used in a submission, which needs exact names.
    """
    if format == "submission":
        line = csv_line((stem(name), prediction.label))
    else:
        confidence = "" if prediction.confidence is None else f"{prediction.confidence:.6f}"
        more = [text for label, value in prediction.top[1:] for text in (written(label), f"{value:.6f}")]
        more += [""] * (2 * (top - 1) - len(more))
        line = csv_line((written(name), written(prediction.label), confidence, prediction.status_text, *more))
    return Row(line, name, prediction.label, str(prediction.status), prediction.reason)


def write_rows(target: Path, lines: Iterable[str]) -> None:
    """Writes all lines to a CSV, to a .zip that holds one, or to a .parquet; if it fails, the file before stays.

    Raises:
        UsageError: it cannot be written.
    """
    if str(target) == STDOUT:
        out = io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline="", write_through=True)
        try:
            _write_lines(out, lines)
        finally:
            out.detach()
        return
    try:
        with replacing(target) as file:
            if is_zip(target):
                with zipfile.ZipFile(file, "w") as archive:
                    entry = zipfile.ZipInfo("prediction.csv", ZIP_DATE)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with archive.open(entry, "w") as inner, io.TextIOWrapper(inner, "utf-8", newline="") as text:
                        _write_lines(text, lines)
            elif is_parquet(target):
                write_parquet(file, lines)
            else:
                text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
                _write_lines(text, lines)
                text.detach()
    except OSError as error:
        raise UsageError(f"-o {target}: cannot be written ({error.strerror or error})") from None


def _write_lines(file: TextIO, lines: Iterable[str]) -> None:
    for line in lines:
        file.write(line)
