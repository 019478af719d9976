"""A model's output for each photo, kept so that every figure can be computed again without the model."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from fieldguide.errors import UsageError
from fieldguide.storage import SURROGATE, replacing

ARRAYS = ("files", "labels", "logits", "classes")
GROUPS = "groups"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of a model for labelled photos.

    Attributes:
        files: names of the photos, each once.
        labels: (photos,) int64, indices into `classes`.
        logits: (photos, classes) float32 or float64, finite.
        classes: names, in the order of the columns, each once.
        groups: (photos,) int64; photos of one number belong together, such as frames of a burst. None: single photos.

    Raises:
        ValueError: parts that do not go together; the message says which.
    """

    files: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    logits: npt.NDArray[Any]
    classes: tuple[str, ...]
    groups: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        problem = _problem(self.files, self.labels, self.logits, self.classes)
        if self.groups is not None and (self.groups.dtype != np.int64 or self.groups.shape != self.labels.shape):
            problem = problem or f"{len(self.files)} files, groups are {self.groups.dtype} of {self.groups.shape}"
        if problem:
            raise ValueError(problem)

    def probabilities(self, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        """Softmax of the logits divided by `temperature`, in double precision: (photos, classes).

        Raises:
            ValueError: the temperature is not positive and finite.
        """
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"a temperature must be positive and finite, not {temperature}")
        return np.asarray(softmax(self.logits.astype(np.float64) / temperature, axis=1))

    def in_order_of(self, files: Sequence[str]) -> "Predictions":
        """The same predictions in the order of these files, each of which may be missing here."""
        place = {file: number for number, file in enumerate(self.files)}
        order = np.array([place[file] for file in files if file in place], dtype=np.int64)
        groups = None if self.groups is None else self.groups[order]
        names = tuple(self.files[number] for number in order)
        return Predictions(names, self.labels[order], self.logits[order], self.classes, groups)

    def predicted(self) -> npt.NDArray[np.int64]:
        """(photos,) index of the likeliest class; of equal ones, the first."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)


def _problem(
    files: tuple[str, ...], labels: npt.NDArray[Any], logits: npt.NDArray[Any], classes: tuple[str, ...]
) -> str | None:
    if labels.dtype != np.int64 or logits.dtype not in (np.float32, np.float64):
        return f"labels are {labels.dtype} and logits {logits.dtype}; int64 and float32 or float64 are wanted"
    if labels.shape != (len(files),) or logits.shape != (len(files), len(classes)):
        return f"{len(files)} files, {len(classes)} classes, labels {labels.shape}, logits {logits.shape}"
    if not classes or len(set(classes)) < len(classes):
        return "there are no classes, or two of one name"
    if len(set(files)) < len(files):
        return f"{len(files) - len(set(files))} files stand in it twice"
    if len(files) and not 0 <= labels.min() <= labels.max() < len(classes):
        return f"labels from {labels.min()} to {labels.max()} for {len(classes)} classes"
    if not np.isfinite(logits).all():
        return f"{int((~np.isfinite(logits)).any(axis=1).sum())} photos have logits that are not finite"
    return None


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes one `.npz` with the arrays `files`, `labels`, `logits` and `classes`, whole or not at all.

    If photos belong together, `groups` is added. The same content gives the same bytes.

    Raises:
        OSError: it cannot be written; what was at `path` before is still there.
    """
    arrays: dict[str, Any] = {
        "files": np.array(predictions.files, dtype=np.str_),
        "labels": predictions.labels,
        "logits": predictions.logits,
        "classes": np.array(predictions.classes, dtype=np.str_),
    }
    if predictions.groups is not None:
        arrays[GROUPS] = predictions.groups
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_predictions(path: Path) -> Predictions:
    """Reads what `write_predictions` wrote.

    Raises:
        UsageError: the file is missing, damaged, or its parts do not go together; the message names it.
    """
    try:
        # np.load leaves a damaged file open; the outer `open` closes it
        with path.open("rb") as file:
            _demand_plain_archive(file)
            with np.load(file, allow_pickle=False) as stored:
                files, labels, logits, classes = (stored[name] for name in ARRAYS)
                groups = stored[GROUPS] if GROUPS in stored.files else None
        _demand_names(files, classes)
        return Predictions(tuple(files.tolist()), labels, logits, tuple(classes.tolist()), groups)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except Exception as error:  # numpy raises anything on a damaged header
        raise UsageError(f"{path}: cannot be read as predictions ({error}); evaluate the run again") from None


def _demand_plain_archive(file: BinaryIO) -> None:
    """numpy's savez does not compress; compressed content may be a thousand times larger than its file."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename[:40]} in it is compressed, which fieldguide never writes")
    file.seek(0)


def _demand_names(*arrays: npt.NDArray[Any]) -> None:
    """Names are text with a size, so there are no more than the file can hold; none has half a character."""
    for array in arrays:
        if array.ndim != 1 or array.dtype.kind != "U" or not array.itemsize:
            raise ValueError(f"names are {array.dtype} of shape {array.shape}")
        if any(SURROGATE.search(name) for name in array.tolist()):
            raise ValueError("a name in it is no text")
