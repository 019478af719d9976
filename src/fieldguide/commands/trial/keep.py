"""What `train` keeps in a run, so that its report can be rebuilt without model and photos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image

from fieldguide import world
from fieldguide.data.read.decode import UnreadableError, photo_of
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.data.read.reading import AnyReading
from fieldguide.data.read.thumbnail import jpeg, seen, stretched
from fieldguide.evaluation.calibration import fit_temperature
from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.predictions import Predictions
from fieldguide.model.activation import NoMap, activation_maps, why_no_map
from fieldguide.model.bundle import load_classifier
from fieldguide.model.classifier import Classifier
from fieldguide.model.description import find_bundle
from fieldguide.report.choice import choose
from fieldguide.report.figures import overlay
from fieldguide.run_folder import RunFolder
from fieldguide.storage import csv_line, write_bytes, write_json, write_text

THUMBNAIL_PX = 224
MAPS_AT_ONCE = 8
LABEL_ERRORS_HEADER = ("file", "given", "suggested", "confidence", "given_confidence", "correct_class")


def keep_for_report(
    run: RunFolder, predictions: Predictions, photos: Mapping[str, Path | Image], device: str = "auto"
) -> None:
    """Writes likely label errors, thumbnails and activation maps of the validation photos into a run with its bundle.

    Each file appears whole or not at all. The index of the gallery comes last, so it never names a missing picture.
    """
    temperature = fit_temperature(predictions.logits, predictions.labels).value
    probabilities = predictions.probabilities(temperature)
    suspected = suspects(predictions, temperature)
    write_text(run.label_errors, label_errors_csv(suspected))
    choice = choose(predictions, probabilities, suspected)
    shown, why = _draw_gallery(run, choice.files(), predictions, probabilities, photos, world.choose_device(device))
    write_json(run.gallery_index, {**choice.to_dict(), "photos": shown, "no_maps": why.name.lower() if why else ""})
    _remove_what_is_not_shown(run, shown)


def label_errors_csv(suspected: Sequence[Mapping[str, Any]]) -> str:
    """Likely label errors, likeliest first, with an empty column for the correct class."""
    lines = [csv_line(LABEL_ERRORS_HEADER)]
    for row in suspected:
        shares = {name: f"{row[name]:.4f}" for name in ("confidence", "given_confidence")}
        lines.append(csv_line([str({**row, **shares}.get(name, "")) for name in LABEL_ERRORS_HEADER]))
    return "".join(lines)


@dataclass(frozen=True)
class _Shown:
    """A photo of the gallery: its row in the predictions, the network's input, and the same for people."""

    row: int
    network_input: torch.Tensor
    thumbnail: npt.NDArray[np.uint8]


def _draw_gallery(
    run: RunFolder,
    files: Sequence[str],
    predictions: Predictions,
    probabilities: npt.NDArray[np.float64],
    photos: Mapping[str, Path | Image],
    device: torch.device,
) -> tuple[dict[str, dict[str, Any]], NoMap | None]:
    """The photos of the gallery by file, and why there are no maps; None if there are."""
    classifier, description = load_classifier(find_bundle(run.path))
    classifier, preprocessing = classifier.to(device), Preprocessing.from_dict(description.preprocessing)
    reading = replace(preprocessing.reading, max_megapixels=description.max_megapixels)
    why = why_no_map(classifier, preprocessing.image_size_px)
    run.gallery.mkdir(exist_ok=True)
    drawn: dict[str, dict[str, Any]] = {}
    place = {file: row for row, file in enumerate(predictions.files)}
    for i in range(0, len(files), MAPS_AT_ONCE):
        these = files[i : i + MAPS_AT_ONCE]
        piece = list(_read(these, place, photos, preprocessing, reading))
        maps = {} if why else _maps(classifier, piece, predictions, preprocessing, device)
        for j, shown in enumerate(piece):
            name = f"{len(drawn) + 1:03d}"
            pictures = _write_pictures(run, name, shown, {part: found[j] for part, found in maps.items()})
            facts = _facts(shown.row, predictions, probabilities[shown.row])
            drawn[predictions.files[shown.row]] = pictures | facts
    return drawn, why


def _read(
    files: Sequence[str],
    place: Mapping[str, int],
    photos: Mapping[str, Path | Image],
    preprocessing: Preprocessing,
    reading: AnyReading,
) -> Iterator[_Shown]:
    for file in files:
        try:
            image = photo_of(photos[file], reading)
        except UnreadableError:  # it was readable a moment ago; the report leaves it out
            continue
        yield _Shown(place[file], pixels(center(image, preprocessing)), seen(image, preprocessing, THUMBNAIL_PX))


def _maps(
    classifier: Classifier,
    piece: Sequence[_Shown],
    predictions: Predictions,
    preprocessing: Preprocessing,
    device: torch.device,
) -> dict[str, npt.NDArray[np.float32]]:
    """(photos, height, width) maps for the predicted and for the actual class; empty without photos."""
    if not piece:
        return {}
    images = normalize(torch.stack([shown.network_input for shown in piece]).to(device), preprocessing)
    rows, found = [shown.row for shown in piece], {}
    for part, classes in (("predicted", predictions.predicted()), ("actual", predictions.labels)):
        if (maps := activation_maps(classifier, images, classes[rows])) is not None:
            found[part] = maps
    return found


def _write_pictures(
    run: RunFolder, name: str, shown: _Shown, maps: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, str | None]:
    pictures = {"thumbnail": (f"{name}.jpg", shown.thumbnail)}
    for part, found in maps.items():
        if found.any():
            pictures[f"{part}_map"] = (f"{name}-{part}.jpg", overlay(shown.thumbnail, stretched(found, THUMBNAIL_PX)))
    for file, picture in pictures.values():
        write_bytes(run.gallery / file, jpeg(picture))
    nothing: dict[str, str | None] = {f"{part}_map": None for part in maps}  # an empty map
    return nothing | {key: file for key, (file, _) in pictures.items()}


def _facts(row: int, predictions: Predictions, probabilities: npt.NDArray[np.float64]) -> dict[str, Any]:
    predicted, actual = int(predictions.predicted()[row]), int(predictions.labels[row])
    return {
        "actual": predictions.classes[actual],
        "predicted": predictions.classes[predicted],
        "confidence": float(probabilities[predicted]),
        "actual_confidence": float(probabilities[actual]),
    }


def _remove_what_is_not_shown(run: RunFolder, shown: Mapping[str, Mapping[str, Any]]) -> None:
    """Pictures of an earlier gallery that the new index does not name."""
    kept = {entry.get(key) for entry in shown.values() for key in ("thumbnail", "predicted_map", "actual_map")}
    for picture in run.gallery.glob("*.jpg"):
        if picture.name not in kept:
            picture.unlink()
