"""What is fuzzed: for each area, files that are right, and what reads them. Another loader is a line in `AREAS`."""

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from fieldguide.data.decode import decode
from fieldguide.data.facts import facts_of
from fieldguide.data.scan import Photo
from fieldguide.data.split import Row, Split, read_split, write_split
from fieldguide.errors import FieldguideError
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions
from fieldguide.model.bundle import Description, load_classifier, read_description, write_bundle
from fieldguide.model.classifier import Architecture, make_classifier
from fieldguide.model.foreign import tensors_of
from fieldguide.model.weights import read_file
from fieldguide.recipe.load import preset_names, preset_text, read_draft
from tests.odd_photos import odd_contents

ARCHITECTURE = Architecture("test_resnet", "bottleneck", 8, 0.25, 3)
PREPROCESSING = {"image_size_px": 32, "resize_px": 32, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


@dataclass(frozen=True)
class Area:
    """A loader and what it is fed.

    Attributes:
        seeds: contents that it reads, to be damaged; made when they are asked for.
        read: takes the path of a file with a damaged content; may raise a FieldguideError and nothing else.
        file: what that file is called.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    file: str


def attempt(area: Area, content: bytes) -> bool:
    """Feeds one content; says whether it was taken. Any error that is not a person's is a finding."""
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        path = Path(folder) / area.file
        path.write_bytes(content)
        try:
            area.read(path)
        except FieldguideError as error:
            assert str(error).strip(), "a refusal without words"
            return False
    return True


def _written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


@cache
def _bundle() -> tuple[bytes, bytes]:
    """Description and weights of a small bundle."""
    torch.manual_seed(0)
    weights = make_classifier(ARCHITECTURE).state_dict()
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        write_bundle(Path(folder), Description(ARCHITECTURE, ("käse", "a\nb", "10"), PREPROCESSING, None), weights)
        return (Path(folder) / "model.json").read_bytes(), (Path(folder) / "model.safetensors").read_bytes()


def _descriptions() -> list[bytes]:
    said = json.loads(_bundle()[0])
    del said["description_sha256"]  # or no damage would get past the checksum
    return [_bundle()[0], json.dumps(said).encode()]


def _read_description(path: Path) -> None:
    (path.parent / "model.safetensors").write_bytes(_bundle()[1])
    load_classifier(path.parent)


def _read_bundle_weights(path: Path) -> None:
    """As if a stranger had made the checksum right, too."""
    import hashlib

    said = json.loads(_bundle()[0])
    del said["description_sha256"]
    said["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "model.json").write_text(json.dumps(said))
    read_description(path.parent)
    load_classifier(path.parent)


def _state_dicts() -> list[bytes]:
    tensors = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.int64)}
    found = []
    for is_new in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": tensors}, buffer, _use_new_zipfile_serialization=is_new)
        found.append(buffer.getvalue())
    return found


def _safetensors() -> list[bytes]:
    return [save({"a": torch.zeros(3, 4), "b.c": torch.ones(2, dtype=torch.int64)})]


def _splits() -> list[bytes]:
    first, second = Row('a "b",\n.jpg', "x", "train", "0" * 64), Row("c\r.jpg", "=y", "val", "1" * 64)
    rows = (first, second, Row("d", "", "excluded", "", "?"))
    return [_written(lambda path: write_split(path, Split(rows)), "split.csv")]


def _predictions() -> list[bytes]:
    said = Predictions(("a", "b"), np.array([0, 1]), np.eye(2, dtype=np.float32), ("x", "y"))
    return [_written(lambda path: write_predictions(path, said), "predictions.npz")]


def _read_image(path: Path) -> None:
    """Decoding and the look of `check` must agree on whether it is a photo."""
    facts = facts_of(Photo(path, "x.jpg", "train", "x"), 20)
    try:
        image = decode(path.read_bytes(), 20)
    except FieldguideError:
        assert facts.reason, "check takes what cannot be decoded"
        raise
    assert not facts.reason, f"check refuses what can be decoded: {facts.reason}"
    assert image.mode == "RGB" and 0 < image.width * image.height <= 20e6
    assert (facts.width, facts.height) == image.size


def _recipes() -> list[bytes]:
    return [preset_text(name).encode() for name in preset_names()]


def _images() -> list[bytes]:
    return [content for content in odd_contents().values() if len(content) < 30_000]


AREAS = {
    "recipe": Area(_recipes, lambda path: read_draft(path).demand(), "r.yaml"),
    "bundle": Area(_descriptions, _read_description, "model.json"),
    "bundle weights": Area(lambda: [_bundle()[1]], _read_bundle_weights, "model.safetensors"),
    "weights .pth": Area(_state_dicts, tensors_of, "w.pth"),
    "weights .safetensors": Area(_safetensors, read_file, "w.safetensors"),
    "split": Area(_splits, read_split, "split.csv"),
    "predictions": Area(_predictions, read_predictions, "predictions.npz"),
    "image": Area(_images, _read_image, "x.jpg"),
}
