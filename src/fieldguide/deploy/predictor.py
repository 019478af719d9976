"""Photos to probabilities: one path for evaluate, predict and the library."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.special import softmax

from fieldguide.data.batches import in_order
from fieldguide.data.decode import UnreadableError, read_photo, to_rgb
from fieldguide.data.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.deploy.engines import Engine, plain
from fieldguide.errors import UsageError
from fieldguide.model.bundle import find_bundle, load_classifier
from fieldguide.world import choose_device

Image8 = npt.NDArray[np.uint8]
Source = str | Path | Image.Image | Image8
BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo.

    Attributes:
        image: what was asked, a path as it was given or None for pixels.
        label: the most probable class's name; empty where the photo could not be read.
        confidence: its probability, in [0, 1]; None where the photo could not be read.
        status: `ok`, or `failed: ` and the reason.
        top: class names with their probabilities, most probable first.
    """

    image: str | None
    label: str
    confidence: float | None
    status: str
    top: tuple[tuple[str, float], ...]


class Predictor:
    """A trained classifier.

    Input of its engine: `images`, (batch, 3, image_size_px, image_size_px) float32, RGB, normalised by
    `preprocessing`; output: (batch, num_classes) logits.
    """

    def __init__(
        self, engine: Engine, classes: Sequence[str], preprocessing: Preprocessing, max_megapixels: float = 200
    ) -> None:
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.max_megapixels = max_megapixels
        self._engine = engine

    def predict(self, images: Iterable[Source], *, top: int = 1, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """Predicts photos; one that cannot be read becomes a prediction whose status says why.

        Args:
            images: paths, PIL images, or arrays: (height, width, 3) or (height, width) uint8.
            top: how many classes `Prediction.top` holds.
            batch_size: photos that are computed at once.

        Returns:
            One prediction an image, in their order.
        """
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            raise UsageError("predict takes a list of photos; put a single one into [ ]")
        return list(self.stream(images, top=top, batch_size=batch_size))

    def stream(self, images: Iterable[Source], *, top: int = 1, batch_size: int = BATCH_SIZE) -> Iterator[Prediction]:
        """As `predict`, one after the other, with bounded memory however many there are."""
        for source, probabilities, reason in self.probabilities(images, batch_size=batch_size):
            name = str(source) if isinstance(source, str | Path) else None
            if probabilities is None:
                yield Prediction(name, "", None, f"failed: {reason}", ())
                continue
            order = np.argsort(-probabilities, kind="stable")[: max(1, top)]
            best = tuple((self.classes[i], float(probabilities[i])) for i in order)
            yield Prediction(name, best[0][0], best[0][1], "ok", best)

    def probabilities(
        self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Any, npt.NDArray[np.float64] | None, str]]:
        """Each source with its (num_classes,) probabilities, or with None and the reason."""
        for source, logits, reason in self.logits(images, batch_size=batch_size):
            yield source, None if logits is None else softmax(logits.astype(np.float64)), reason

    def logits(
        self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Any, npt.NDArray[np.float32] | None, str]]:
        """Each source with its (num_classes,) logits, or with None and the reason."""
        for inputs in in_order(images, self._load, batch_size):
            answers = iter(self._answers(inputs.images))
            for source, reason in zip(inputs.sources, inputs.reasons, strict=True):
                yield source, None if reason else next(answers), reason

    def _answers(self, images: torch.Tensor) -> npt.NDArray[np.float32]:
        if not len(images):
            return np.empty((0, len(self.classes)), dtype=np.float32)
        return self._engine(normalize(images, self.preprocessing))

    def _load(self, source: Source) -> torch.Tensor:
        return pixels(center(_as_image(source, self.max_megapixels), self.preprocessing))


def _as_image(source: Source, max_megapixels: float) -> Image.Image:
    if isinstance(source, str | Path):
        return read_photo(Path(source), max_megapixels)
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or source.ndim not in (2, 3)
            or (source.ndim == 3 and source.shape[2] not in (3, 4))
        ):
            raise UnreadableError(
                f"is an array of shape {source.shape} and type {source.dtype}; "
                "expected (height, width, 3) or (height, width) uint8"
            )
        source = Image.fromarray(source)
    if not isinstance(source, Image.Image):
        raise UnreadableError(f"is a {type(source).__name__}; expected a path, a PIL image or an array")
    if 0 in source.size:
        raise UnreadableError("has no pixels")
    return to_rgb(source)


def load_predictor(path: str | Path, device: str = "auto") -> Predictor:
    """Loads a run's or a bundle's model.

    Args:
        path: a run or a bundle.
        device: `auto`, `cpu` or `cuda:N`.

    Raises:
        UsageError: no bundle there, a damaged one, or no such device.
    """
    chosen = choose_device(device)
    classifier, description = load_classifier(find_bundle(Path(path)))
    return Predictor(plain(classifier, chosen), description.classes, Preprocessing.from_dict(description.preprocessing))
