"""Writes predictions to a CSV or a submission."""

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from fieldguide.deploy.answers import Prediction, Status
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


@dataclass
class Written:
    """What needs attention among the rows: names and reasons of unreadable photos, and how many are unsure."""

    failed: list[tuple[str, str]]
    unsure: int = 0


def write_rows(
    target: Path,
    stream: Iterable[tuple[str, Prediction]],
    format: str,
    top: int,
    written: Callable[[str], str],
) -> Written:
    """Writes all rows; if that fails, the file before stays as it was.

    Args:
        target: a CSV, or a .zip that will hold one.
        stream: names of photos with their predictions.
        written: changes names of photos and classes; not used in a submission, which needs exact names.

    Raises:
        UsageError: it cannot be written.
    """
    found = Written([])
    try:
        with replacing(target) as file:
            if is_zip(target):
                with zipfile.ZipFile(file, "w") as archive:
                    entry = zipfile.ZipInfo("prediction.csv", ZIP_DATE)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with archive.open(entry, "w") as inner, io.TextIOWrapper(inner, "utf-8", newline="") as text:
                        _write_lines(text, stream, format, top, found, written)
            else:
                text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
                _write_lines(text, stream, format, top, found, written)
                text.detach()
    except OSError as error:
        raise UsageError(f"-o {target}: cannot be written ({error.strerror or error})") from None
    return found


def _write_lines(
    file: TextIO,
    stream: Iterable[tuple[str, Prediction]],
    format: str,
    top: int,
    found: Written,
    written: Callable[[str], str],
) -> None:
    if format == "submission":
        file.write(csv_line(("image_name", "pred_label")))
    else:
        more = [column for place in range(2, top + 1) for column in (f"label_{place}", f"confidence_{place}")]
        file.write(csv_line(("image", "label", "confidence", "status", *more)))
    for name, prediction in stream:
        if prediction.status is Status.FAILED:
            found.failed.append((name, prediction.reason))
        found.unsure += prediction.status is Status.UNSURE
        if format == "submission":
            file.write(csv_line((stem(name), prediction.label)))
            continue
        confidence = "" if prediction.confidence is None else f"{prediction.confidence:.6f}"
        more = [text for label, value in prediction.top[1:] for text in (written(label), f"{value:.6f}")]
        more += [""] * (2 * (top - 1) - len(more))
        file.write(csv_line((written(name), written(prediction.label), confidence, prediction.status_text, *more)))
