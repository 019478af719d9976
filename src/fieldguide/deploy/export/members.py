"""The bundles of an export: their networks, and what a file says of them."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.export.graph import Input, Member
from fieldguide.errors import UsageError
from fieldguide.model.bundle import load_classifier
from fieldguide.model.description import Description, find_bundle
from fieldguide.storage import digest


def load_members(paths: Sequence[Path], takes: Input) -> tuple[list[Member], dict[str, Any]]:
    """Loads bundles, and describes the export that they make.

    Args:
        paths: runs or bundles with the same classes.
        takes: what the graph is to take.

    Returns:
        The members, and the metadata that each file holds, as plain data.

    Raises:
        UsageError: a bundle is damaged, or the members cannot share one input.
    """
    loaded = [load_classifier(find_bundle(path)) for path in paths]
    members = [
        Member(classifier, Preprocessing.from_dict(said.preprocessing), said.temperature, said.classes)
        for classifier, said in loaded
    ]
    descriptions = [said for _, said in loaded]
    _demand_one_input(members, paths, takes)
    return members, _about(members, descriptions, takes)


def _demand_one_input(members: Sequence[Member], paths: Sequence[Path], takes: Input) -> None:
    """One decoded photo must be right for all members."""
    first = members[0].preprocessing
    for member, path in zip(members[1:], paths[1:], strict=True):
        own = member.preprocessing
        if replace(own.reading, fit="crop") != replace(first.reading, fit="crop"):
            raise UsageError(
                f"{path} reads photos in another way than {paths[0]} (data.value_range, data.bands or data.alpha), so "
                "one file cannot serve both; export each"
            )
        if takes == "resized" and _resize(own) != _resize(first):
            raise UsageError(
                f"--input resized: {path} resizes photos in another way than {paths[0]}; leave it out, or export each"
            )


def _resize(preprocessing: Preprocessing) -> tuple[object, ...]:
    made = preprocessing
    return made.image_size_px, made.resize_px, made.interpolation, made.reading.fit


def _about(members: Sequence[Member], descriptions: Sequence[Description], takes: Input) -> dict[str, Any]:
    licences = sorted({said.licence or "unknown" for said in descriptions})
    return {
        "classes": list(members[0].classes),
        "takes": takes,
        "color": "RGB",
        "input": {"name": "photos", "shape": _shape(members, takes), "dtype": "uint8", "range": [0, 255]},
        "output": {"name": "probabilities", "shape": ["batch", len(members[0].classes)], "dtype": "float32"},
        "preprocessing": [member.preprocessing.to_dict() for member in members],
        "temperatures": [member.temperature for member in members],
        "is_calibrated": all(said.calibration is not None or said.temperature != 1.0 for said in descriptions),
        "max_megapixels": min(said.max_megapixels for said in descriptions),
        "backbones": [said.architecture.backbone for said in descriptions],
        "licence": ", ".join(licences),
        "bundles_sha256": [digest(repr(said).encode()) for said in descriptions],
        "weights_sha256": [said.weights_sha256 for said in descriptions],
        "fieldguide_version": importlib.metadata.version("fieldguide"),
    }


def _shape(members: Sequence[Member], takes: Input) -> list[str | int]:
    side = members[0].preprocessing.image_size_px
    return ["batch", "height", "width", 3] if takes == "photo" else ["batch", side, side, 3]
