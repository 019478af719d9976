"""What a bundle says of itself: network, classes and preprocessing, as data and never as code."""

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fieldguide.errors import UsageError
from fieldguide.model.architecture import FEATURES, HEADS, Architecture
from fieldguide.storage import SURROGATE, digest, read_json

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
MOST_DESCRIPTION_BYTES = 2**26  # a million names of classes
FORMAT = 1
TEMPERATURES = (1e-6, 1e6)  # what a fit can give; beyond, a softmax has no digits left
MOST_PX = 2_048  # as in a recipe
MOST_MEGAPIXELS = 2_000  # the most that a recipe can say


@dataclass(frozen=True)
class Description:
    """What a bundle says of itself.

    Attributes:
        classes: names, in the order of the network's outputs.
        preprocessing: plain data; `data.preprocess.Preprocessing` reads it.
        pretrained_on: what the first weights were trained on; None if unknown.
        weights_sha256: checksum of the weights' file.
        weights_sha256_before: of the weights that were being replaced when writing was cut off; they are valid too.
        temperature: what logits are divided by before the softmax; 1 until one is fitted.
        calibration: on how many photos the temperature was fitted (`fitted_on_n`), and a `note`; None until one is
            fitted, and in bundles of earlier versions.
        licence: of the first weights, by timm's name for it; None if unknown.
        max_megapixels: a larger photo is unreadable, as in the training; 200 in bundles of earlier versions.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    pretrained_on: str | None
    weights_sha256: str = ""
    weights_sha256_before: str | None = None
    temperature: float = 1.0
    calibration: Mapping[str, Any] | None = None
    max_megapixels: float = 200
    licence: str | None = None


def find_bundle(path: Path) -> Path:
    """The bundle's folder, given itself or its run.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    try:
        return _found_bundle(path)
    except OSError as error:  # a name that is too long, a folder that cannot be entered
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _found_bundle(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: no such run or bundle")
    for folder in (path, path / "bundle"):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    if (path / "folds.csv").is_file():
        raise UsageError(
            f"{path}: is a cross-validation with one model per fold; pass one of them, such as {path / 'fold-1'}, "
            "or train without split.folds for a single model"
        )
    if (path / "recipe.yaml").is_file():
        raise UsageError(f"{path}: this run has no model yet (no finished epoch)")
    raise UsageError(f"{path}: not a run or bundle (no {DESCRIPTION_FILE} in it or in bundle/)")


def read_description(folder: Path) -> Description:
    """Reads what a bundle says of itself.

    Raises:
        UsageError: missing, damaged, or of another version.
    """
    path = folder / DESCRIPTION_FILE
    return from_dict(read_json(path, MOST_DESCRIPTION_BYTES), path)


def to_dict(description: Description) -> dict[str, Any]:
    """As plain data, with a checksum of its own."""
    architecture, size = description.architecture, description.preprocessing["image_size_px"]
    content = {
        "format": FORMAT,
        "classes": list(description.classes),
        "preprocessing": dict(description.preprocessing),
        "max_megapixels": description.max_megapixels,
        "input": {
            "name": "images",
            "shape": ["batch", 3, size, size],
            "dtype": "float32",
            "color": "RGB",
        },
        "output": {"name": "logits", "shape": ["batch", architecture.num_classes], "dtype": "float32"},
        "backbone": architecture.backbone,
        "head": {
            "kind": architecture.head,
            "width": architecture.head_width,
            "dropout": architecture.head_dropout,
        },
        "features": architecture.features,
        "temperature": description.temperature,
        "calibration": None if description.calibration is None else dict(description.calibration),
        "pretrained_on": description.pretrained_on,
        "licence": description.licence,
        "weights_sha256": description.weights_sha256,
        "versions": {name: importlib.metadata.version(name) for name in ("fieldguide", "torch", "timm")},
    } | ({"weights_sha256_before": before} if (before := description.weights_sha256_before) else {})
    return content | {"description_sha256": _digest_of(content)}


def _digest_of(content: Mapping[str, Any]) -> str:
    """Checksum of a description without its own checksum."""
    rest = {name: value for name, value in content.items() if name != "description_sha256"}
    return digest(json.dumps(rest, sort_keys=True).encode())


def from_dict(data: Any, path: Path) -> Description:
    """A description from whatever the file contained; raises UsageError if it is damaged or of another version."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise UsageError(f"{path}: has format {str(found)[:40]}, but this version of fieldguide reads format {FORMAT}")
    temperature = _read_temperature(data.get("temperature", 1.0), path)
    max_megapixels = _read_megapixels(data.get("max_megapixels", Description.max_megapixels), path)
    try:
        if not isinstance(data["classes"], list):
            raise TypeError("classes is not a list")
        classes = tuple(data["classes"])
        head = data["head"]
        description = Description(
            architecture=Architecture(
                backbone=data["backbone"],
                head=head["kind"],
                head_width=head["width"],
                head_dropout=float(head["dropout"]),
                num_classes=len(classes),
                features=data.get("features", Architecture.features),
                image_size_px=_size(dict(data["preprocessing"])),
            ),
            classes=classes,
            preprocessing=dict(data["preprocessing"]),
            pretrained_on=data.get("pretrained_on"),
            weights_sha256=data["weights_sha256"],
            weights_sha256_before=data.get("weights_sha256_before"),
            temperature=temperature,
            calibration=None if data.get("calibration") is None else dict(data["calibration"]),
            max_megapixels=max_megapixels,
            licence=data.get("licence"),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}: is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    _demand_sense(description, path)
    if "description_sha256" in data and data["description_sha256"] != _digest_of(data):
        raise UsageError(
            f"{path}: was changed after fieldguide wrote it (its checksum differs). Its classes and preprocessing "
            "may be wrong; copy it from its run again"
        )
    return description


def _size(preprocessing: Mapping[str, Any]) -> int | None:
    """The size that a backbone of a single size was built for; whoever reads the preprocessing refuses a wrong one."""
    size = preprocessing.get("image_size_px")
    return size if type(size) is int and 0 < size <= MOST_PX else None


def _read_temperature(value: Any, path: Path) -> float:
    if not is_temperature(value):
        low, high = TEMPERATURES
        raise UsageError(f"{path}: is damaged (temperature is {str(value)[:40]}; must be from {low:g} to {high:g})")
    return float(value)


def is_temperature(value: Any) -> bool:
    """Whether it is a number in range; NaN is not."""
    return _is_number(value) and TEMPERATURES[0] <= value <= TEMPERATURES[1]


def _read_megapixels(value: Any, path: Path) -> float:
    if not (_is_number(value) and 0 < value <= MOST_MEGAPIXELS):
        raise UsageError(
            f"{path}: is damaged (max_megapixels is {str(value)[:40]}; must be above 0 and at most {MOST_MEGAPIXELS:,})"
        )
    return float(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _demand_sense(description: Description, path: Path) -> None:
    made, width = description.architecture, description.architecture.head_width
    right = (
        isinstance(made.backbone, str)
        and re.fullmatch(r"[\w./-]{1,200}", made.backbone) is not None
        and made.head in HEADS
        and made.features in FEATURES
        and (width is None if made.head == "linear" else isinstance(width, int) and 1 <= width <= 65_536)
        and 0 <= made.head_dropout < 1
        and 2 <= made.num_classes <= 1_000_000
        and all(isinstance(name, str) and not SURROGATE.search(name) for name in description.classes)
        and len(set(description.classes)) == made.num_classes
        and isinstance(description.weights_sha256, str)
        and all(said is None or isinstance(said, str) for said in (description.pretrained_on, description.licence))
    )
    if not right:
        raise UsageError(f"{path}: is damaged (a field has an impossible value)")
