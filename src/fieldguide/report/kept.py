"""What a run keeps for its report; the model is not needed."""

import base64
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.evaluation.predictions import Predictions, read_predictions
from fieldguide.run_folder import RunFolder
from fieldguide.storage import printable, read_json, read_text

MAPS = ("predicted_map", "actual_map")
PICTURE_NAME = re.compile(r"[\w-]{1,64}\.jpg")


@dataclass(frozen=True)
class Gallery:
    """Pictures of a run.

    Attributes:
        index: content of `gallery/index.json`: `pairs`, `worst`, `least_sure`, `label_errors`, `photos`, and in
            `no_maps` why there are no activation maps (`tokens`, `one_cell`, or empty).
        pictures: `data:` addresses, by name.
    """

    index: Mapping[str, Any]
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class Kept:
    """All content of a report.

    Attributes:
        split: `class`, `part` and `reason` of each photo, with its `file`.
        predictions, gallery, label_errors, check: None if the run kept none.
    """

    name: str
    result: Mapping[str, Any]
    history: list[dict[str, Any]]
    recipe: str
    environment: Mapping[str, Any]
    split: list[dict[str, str]]
    predictions: Predictions | None
    gallery: Gallery | None
    label_errors: str | None
    check: Mapping[str, Any] | None

    def photos_of_classes(self, part: str) -> Counter[str]:
        """Photos per class of a part."""
        return Counter(row["class"] for row in self.split if row["part"] == part)


def read_kept(run: RunFolder) -> Kept:
    """Reads a finished run.

    Raises:
        UsageError: no finished run, or a required file is missing or damaged.
    """
    return Kept(
        name=printable(run.path.resolve().name),
        result=run.read_result(),
        history=run.read_history(),
        recipe=_text(run.recipe),
        environment=read_json(run.environment),
        split=_split(run.split),
        predictions=read_predictions(run.predictions) if run.predictions.exists() else None,
        gallery=_gallery(run) if run.gallery_index.exists() else None,
        label_errors=_text(run.label_errors) if run.label_errors.exists() else None,
        check=read_json(run.check) if run.check.exists() else None,
    )


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None


def _split(path: Path) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path), newline=""), restkey="beyond", restval=""))
    except csv.Error as error:
        raise UsageError(f"{path}: is damaged ({error})") from None
    if not rows or not {"file", "class", "part", "reason"} <= rows[0].keys():
        raise UsageError(f"{path}: is damaged (the columns file, class, part and reason are expected)")
    return rows


def _gallery(run: RunFolder) -> Gallery:
    index = read_json(run.gallery_index)
    try:
        entries = index["photos"].values()
        names = {entry["thumbnail"] for entry in entries} | {entry.get(key) for entry in entries for key in MAPS}
        names.discard(None)
        return Gallery(index, {name: _address(run.gallery, name) for name in sorted(names)})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{run.gallery_index}: is damaged ({type(error).__name__}: {error})") from None


def _address(folder: Path, name: str) -> str:
    # An index from elsewhere must not put other files of this machine into a page.
    if not PICTURE_NAME.fullmatch(name):
        raise UsageError(f"{folder / 'index.json'}: is damaged (it names a picture {name!r})")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise UsageError(f"{folder / name}: cannot be read ({error.strerror}); train or evaluate again") from None
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"
