"""The part of a run that is needed to use the model: weights, classes and preprocessing, as data and never as code."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from fieldguide.errors import UsageError
from fieldguide.model.classifier import Classifier, make_classifier, make_on_meta
from fieldguide.model.description import (
    DESCRIPTION_FILE,
    TEMPERATURES,
    WEIGHTS_FILE,
    Description,
    is_temperature,
    read_description,
    to_dict,
)
from fieldguide.storage import digest, file_digest, write_bytes, write_json

READ_AGAIN = 3  # times, beside a training that goes on


def write_bundle(folder: Path, description: Description, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes a bundle; whatever happens in between, the old or the new bundle can be read.

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


def _write_description(folder: Path, description: Description) -> None:
    write_json(folder / DESCRIPTION_FILE, to_dict(description))


def write_temperature(folder: Path, temperature: float, fitted_on_n: int, note: str | None) -> None:
    """Writes a fitted temperature into a bundle.

    `note` says why a temperature is not the optimum. Raises UsageError if the bundle is missing or damaged, ValueError
    if the temperature is not between 1e-6 and 1e6.
    """
    if not is_temperature(temperature):
        raise ValueError(f"a temperature must be between {TEMPERATURES[0]:g} and {TEMPERATURES[1]:g}: {temperature}")
    calibration = {"fitted_on_n": fitted_on_n, "note": note}
    _write_description(folder, replace(read_description(folder), temperature=temperature, calibration=calibration))


def write_preprocessing(folder: Path, preprocessing: Mapping[str, Any]) -> None:
    """Replaces the preprocessing in a bundle; weights and temperature stay.

    Raises:
        UsageError: the bundle is missing or damaged.
    """
    _write_description(folder, replace(read_description(folder), preprocessing=preprocessing))


class OtherWeightsError(UsageError):
    """Weights that do not match the description: damaged, or from a better epoch since."""


def read_bundle(folder: Path) -> tuple[Description, dict[str, torch.Tensor]]:
    """Reads a bundle's description and weights, and again if a training wrote a better epoch in between.

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
        OtherWeightsError: they do not match the description.
        UsageError: missing or damaged.
    """
    path = folder / WEIGHTS_FILE
    most = 8 * sum(value.numel() for value in make_on_meta(description.architecture).state_dict().values())
    try:
        if path.stat().st_size > most + 10_000_000:
            raise UsageError(f"{path}: is larger than its network can be")
        content = path.read_bytes()
        if digest(content) not in (description.weights_sha256, description.weights_sha256_before):
            raise OtherWeightsError(f"{path}: does not match {DESCRIPTION_FILE} (its checksum differs)")
        return dict(load(content))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise UsageError(f"{path}: not enough memory to read it") from None
    except Exception as error:  # safetensors' own errors, and what its Python part raises for types that torch lacks
        raise UsageError(f"{path}: is damaged ({type(error).__name__}: {str(error)[:200]})") from None


def fits(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a tensor has the right shape and a compatible type."""
    same_kind = value.dtype == own.dtype or (value.is_floating_point() and own.is_floating_point())
    return value.shape == own.shape and same_kind


def load_classifier(folder: Path) -> tuple[Classifier, Description]:
    """Builds a bundle's network with its weights, in evaluation mode.

    Raises:
        UsageError: the bundle is damaged, or its weights do not fit its network.
    """
    description, weights = read_bundle(folder)
    own = make_on_meta(description.architecture).state_dict()  # compared before the network takes memory
    if own.keys() != weights.keys() or not all(fits(value, own[name]) for name, value in weights.items()):
        raise UsageError(f"{folder / WEIGHTS_FILE}: its tensors do not fit {description.architecture.backbone}")
    classifier = make_classifier(description.architecture)
    classifier.load_state_dict(weights)
    return classifier.eval(), description
