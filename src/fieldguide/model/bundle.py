"""The part of a run that is needed to use the model: weights, classes and preprocessing, as data and never as code."""

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load, save

from fieldguide.errors import UsageError
from fieldguide.model.classifier import Architecture, Classifier, make_classifier, make_on_meta
from fieldguide.storage import SURROGATE, digest, file_digest, read_json, write_bytes, write_json

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
READ_AGAIN = 3  # times, beside a training that goes on
MOST_DESCRIPTION_BYTES = 2**26  # a million names of classes
TEMPERATURES = (1e-6, 1e6)  # what a fit can give; beyond, a softmax has no digits left
MOST_MEGAPIXELS = 2_000  # the most that a recipe can say


@dataclass(frozen=True)
class Description:
    """What a bundle says of itself.

    Attributes:
        architecture: the network.
        classes: names, in the order of the network's outputs.
        preprocessing: plain data; `data.preprocess.Preprocessing` reads it.
        pretrained_on: what the first weights were trained on; None where nobody can tell.
        weights_sha256: checksum of the weights' file.
        weights_sha256_before: of the weights that were being replaced when the writing was cut off; they belong to the
            same network and are as good.
        temperature: what logits are divided by before the softmax; 1 as long as none was fitted.
        calibration: on how many photos it was fitted (`fitted_on_n`) and what must be known of it (`note`); None as
            long as none was fitted, as in bundles of earlier versions.
        max_megapixels: a larger photo is unreadable, as it was to the training; 200 in bundles of earlier versions.
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


def find_bundle(path: Path) -> Path:
    """The bundle's folder, given itself or its run.

    Raises:
        UsageError: there is none, or nobody can look there; the message says what was expected.
    """
    try:
        return _found_bundle(path)
    except OSError as error:  # a name that is too long, a folder that cannot be entered
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def _found_bundle(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path}: there is no such run or bundle")
    for folder in (path, path / "bundle"):
        if (folder / DESCRIPTION_FILE).is_file():
            return folder
    if (path / "folds.csv").is_file():
        raise UsageError(
            f"{path}: is a cross-validation, with a model a fold; name one of them, such as {path / 'fold-1'}, "
            "or train without split.folds for one model"
        )
    if (path / "recipe.yaml").is_file():
        raise UsageError(f"{path}: this run has no model yet (no epoch was finished)")
    raise UsageError(f"{path}: is no run and no bundle (there is no {DESCRIPTION_FILE} in it or in bundle/)")


def write_bundle(folder: Path, description: Description, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes a bundle; whatever happens in between, the one before or the new one can be read.

    The description comes first and takes the old weights' checksum as well as the new one's, then the weights, then
    the description with the new one alone.
    """
    folder.mkdir(exist_ok=True)
    content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    before = file_digest(folder / WEIGHTS_FILE) if (folder / WEIGHTS_FILE).is_file() else None
    said = replace(description, weights_sha256=digest(content), weights_sha256_before=None)
    _write_description(folder, replace(said, weights_sha256_before=before))
    write_bytes(folder / WEIGHTS_FILE, content)
    if before:
        _write_description(folder, said)


def write_temperature(folder: Path, temperature: float, fitted_on_n: int, note: str | None) -> None:
    """Adds to a bundle the temperature that was fitted for it; its weights stay as they are.

    Args:
        folder: the bundle.
        temperature: between 1e-6 and 1e6.
        fitted_on_n: photos.
        note: None if it is the optimum; else why there is none and what the temperature is instead.

    Raises:
        UsageError: there is no such bundle, or it is damaged.
        ValueError: the temperature is out of range.
    """
    if not _is_temperature(temperature):
        raise ValueError(f"a temperature must be between {TEMPERATURES[0]:g} and {TEMPERATURES[1]:g}: {temperature}")
    calibration = {"fitted_on_n": fitted_on_n, "note": note}
    _write_description(folder, replace(read_description(folder), temperature=temperature, calibration=calibration))


def write_preprocessing(folder: Path, preprocessing: Mapping[str, Any]) -> None:
    """Puts another preprocessing into a bundle; its weights, and its temperature, stay as they are.

    Raises:
        UsageError: there is no such bundle, or it is damaged.
    """
    _write_description(folder, replace(read_description(folder), preprocessing=preprocessing))


def _write_description(folder: Path, description: Description) -> None:
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
        "temperature": description.temperature,
        "calibration": None if description.calibration is None else dict(description.calibration),
        "pretrained_on": description.pretrained_on,
        "weights_sha256": description.weights_sha256,
        "versions": {name: importlib.metadata.version(name) for name in ("fieldguide", "torch", "timm")},
    } | ({"weights_sha256_before": before} if (before := description.weights_sha256_before) else {})
    write_json(folder / DESCRIPTION_FILE, content | {"description_sha256": _digest_of(content)})


def _digest_of(content: Mapping[str, Any]) -> str:
    """Checksum of a description without its own checksum."""
    rest = {name: value for name, value in content.items() if name != "description_sha256"}
    return digest(json.dumps(rest, sort_keys=True).encode())


def read_description(folder: Path) -> Description:
    """Reads what a bundle says of itself.

    Raises:
        UsageError: missing, damaged, or of another version.
    """
    path = folder / DESCRIPTION_FILE
    data = read_json(path, MOST_DESCRIPTION_BYTES)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise UsageError(
            f"{path}: is of format {str(found)[:40]}, and this version of fieldguide reads format {FORMAT}"
        )
    temperature = _read_temperature(data.get("temperature", 1.0), path)
    max_megapixels = _read_megapixels(data.get("max_megapixels", Description.max_megapixels), path)
    try:
        if not isinstance(data["classes"], list):
            raise TypeError("classes is no list")
        classes = tuple(data["classes"])
        head = data["head"]
        description = Description(
            architecture=Architecture(
                backbone=data["backbone"],
                head=head["kind"],
                head_width=head["width"],
                head_dropout=float(head["dropout"]),
                num_classes=len(classes),
            ),
            classes=classes,
            preprocessing=dict(data["preprocessing"]),
            pretrained_on=data.get("pretrained_on"),
            weights_sha256=data["weights_sha256"],
            weights_sha256_before=data.get("weights_sha256_before"),
            temperature=temperature,
            calibration=None if data.get("calibration") is None else dict(data["calibration"]),
            max_megapixels=max_megapixels,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}: is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    _demand_sense(description, path)
    if "description_sha256" in data and data["description_sha256"] != _digest_of(data):
        raise UsageError(
            f"{path}: was changed after fieldguide wrote it (its checksum differs), so its classes and preprocessing "
            "may not be those of the model; take it from its run again"
        )
    return description


def _read_temperature(value: Any, path: Path) -> float:
    if not _is_temperature(value):
        low, high = TEMPERATURES
        raise UsageError(
            f"{path}: is damaged (temperature is {str(value)[:40]}, and must be a number from {low:g} to {high:g})"
        )
    return float(value)


def _is_temperature(value: Any) -> bool:
    """Whether it is in range, where NaN never is."""
    return _is_number(value) and TEMPERATURES[0] <= value <= TEMPERATURES[1]


def _read_megapixels(value: Any, path: Path) -> float:
    if not (_is_number(value) and 0 < value <= MOST_MEGAPIXELS):
        raise UsageError(
            f"{path}: is damaged (max_megapixels is {str(value)[:40]}, and must be a number above 0 and at most "
            f"{MOST_MEGAPIXELS:,})"
        )
    return float(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number; true is none here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _demand_sense(description: Description, path: Path) -> None:
    made, width = description.architecture, description.architecture.head_width
    right = (
        isinstance(made.backbone, str)
        and re.fullmatch(r"[\w./-]{1,200}", made.backbone) is not None
        and made.head in ("linear", "bottleneck", "mlp")
        and (width is None if made.head == "linear" else isinstance(width, int) and 1 <= width <= 65_536)
        and 0 <= made.head_dropout < 1
        and 2 <= made.num_classes <= 1_000_000
        and all(isinstance(name, str) and not SURROGATE.search(name) for name in description.classes)
        and len(set(description.classes)) == made.num_classes
        and isinstance(description.weights_sha256, str)
        and (description.pretrained_on is None or isinstance(description.pretrained_on, str))
    )
    if not right:
        raise UsageError(f"{path}: is damaged (a field has a value that no bundle of fieldguide has)")


class OtherWeightsError(UsageError):
    """Weights that the description was not written for: damaged, or of a better epoch since."""


def read_bundle(folder: Path) -> tuple[Description, dict[str, torch.Tensor]]:
    """Reads a bundle's description and weights, again where a training wrote a better epoch between the two.

    Raises:
        UsageError: as `read_description` and `read_weights`.
    """
    description = read_description(folder)
    for _ in range(READ_AGAIN):
        try:
            return description, read_weights(folder, description)
        except OtherWeightsError:
            before, description = description, read_description(folder)
            if description == before:
                raise
    return description, read_weights(folder, description)


def read_weights(folder: Path, description: Description) -> dict[str, torch.Tensor]:
    """Reads a bundle's weights.

    Raises:
        OtherWeightsError: not the file that the description was written for.
        UsageError: missing or damaged.
    """
    path = folder / WEIGHTS_FILE
    most = 8 * sum(value.numel() for value in make_on_meta(description.architecture).state_dict().values())
    try:
        if path.stat().st_size > most + 10_000_000:
            raise UsageError(f"{path}: is larger than the network it is said to belong to")
        content = path.read_bytes()
        if digest(content) not in (description.weights_sha256, description.weights_sha256_before):
            raise OtherWeightsError(
                f"{path}: is not the file that {DESCRIPTION_FILE} was written for (its checksum differs)"
            )
        return dict(load(content))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise UsageError(f"{path}: needs more memory than there is") from None
    except Exception as error:  # safetensors' own errors, and what its Python part raises for types that torch lacks
        raise UsageError(f"{path}: is damaged ({type(error).__name__}: {str(error)[:200]})") from None


def fits(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a tensor has the shape of its place, and numbers that become no others there."""
    same_kind = value.dtype == own.dtype or (value.is_floating_point() and own.is_floating_point())
    return value.shape == own.shape and same_kind


def load_classifier(folder: Path) -> tuple[Classifier, Description]:
    """Builds a bundle's network with its weights, in evaluation mode.

    Raises:
        UsageError: the bundle is damaged, or its weights do not fit its network.
    """
    description, weights = read_bundle(folder)
    own = make_on_meta(description.architecture).state_dict()  # held together before the network takes memory
    if own.keys() != weights.keys() or not all(fits(value, own[name]) for name, value in weights.items()):
        raise UsageError(f"{folder / WEIGHTS_FILE}: its tensors are not those of {description.architecture.backbone}")
    classifier = make_classifier(description.architecture)
    classifier.load_state_dict(weights)
    return classifier.eval(), description
