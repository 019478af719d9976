"""The rows of a prediction, as a CSV or as a submission."""

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
    """A photo's name without folder and ending, as a submission names it."""
    return PurePosixPath(name).stem


def is_zip(target: Path) -> bool:
    """Whether a file is to be a .zip, by its ending in any case."""
    return target.suffix.lower() == ".zip"


@dataclass
class Written:
    """What stood out among the rows.

    Attributes:
        failed: names and reasons of the photos that could not be read.
        unsure: rows with less confidence than was asked for.
    """

    failed: list[tuple[str, str]]
    unsure: int = 0


def write_rows(
    target: Path,
    stream: Iterable[tuple[str, Prediction]],
    format: str,
    top: int,
    written: Callable[[str], str],
) -> Written:
    """Writes all rows, whole or not at all.

    Args:
        target: a CSV, or a .zip that is to hold one.
        stream: names of photos with what was predicted.
        format: of `FORMATS`.
        top: how many classes a row holds.
        written: how names of photos and classes are written; not in a submission, which holds exact ones.

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
