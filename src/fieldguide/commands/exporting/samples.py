"""Photos with expected probabilities, by which an implementer elsewhere can test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.commands.exporting.photos import ProofPhotos
from fieldguide.commands.exporting.proof import Answers
from fieldguide.data.read.content import copy_photo
from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.storage import file_digest, write_json

SAMPLES = 5


@dataclass(frozen=True)
class Sample:
    """A copied photo, and the trained model's probabilities in the order of its classes."""

    path: Path
    probabilities: tuple[float, ...]


def write_samples(folder: ExportFolder, original: Answers, photos: ProofPhotos, tolerance: float) -> list[Sample]:
    """Copies some photos of the proof, spread over its classes, and writes what the trained model says of them.

    `tolerance` is how far other code's probabilities may be from these.

    Returns:
        The copies, with the probabilities that are expected.
    """
    folder.samples.mkdir()
    files, classes = original.predictions.files, original.predictions.classes
    last = len(files) - 1
    places = sorted({round(number * last / (SAMPLES - 1)) for number in range(SAMPLES)})
    told: list[dict[str, Any]] = []
    copies = []
    for number, place in enumerate(places, 1):
        source = photos.paths[files[place]]
        copy = folder.samples / f"{number}{source.suffix.lower()}"
        try:
            copy_photo(source, copy)
        except OSError as error:
            raise UsageError(f"{source}: cannot be copied into samples/ ({error.strerror or error})") from None
        row = original.probabilities[place]
        told.append(
            {
                "file": copy.name,
                "sha256": file_digest(copy),
                "label": classes[int(row.argmax())],
                "probabilities": {name: float(value) for name, value in zip(classes, row, strict=True)},
            }
        )
        copies.append(Sample(copy, tuple(map(float, row))))
    write_json(folder.expected, {"tolerance": tolerance, "samples": told})
    return copies
