"""Photos to probabilities: one path for evaluate, predict and the library."""

import abc
import collections
import copy
import functools
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.special import softmax

from fieldguide.data.read.decode import SMALLER, UnreadableError, as_decoded, read_photo
from fieldguide.data.read.inputs import in_order
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.deploy.choice import Kept, Speeds, key
from fieldguide.deploy.engines import Engine, mirrored
from fieldguide.deploy.serving import PLAIN, Serving
from fieldguide.errors import UsageError
from fieldguide.model.bundle import find_bundle, load_classifier
from fieldguide.world import choose_device

Image8 = npt.NDArray[np.uint8]
Source = str | Path | Image.Image | Image8
Answer = tuple[Any, npt.NDArray[np.float32] | None, str]  # a source, its (num_classes,) logits or why there are none
BATCH_SIZE = 64
ENGINE_BATCH = {"cpu": 32, "cuda": 128}  # on a CPU, 64 at 224 px are fetched from the system and given back each time
DRAFT_FACTOR = 4  # both sides of a JPEG decoded small keep so many times `resize_px`; with 2, three times the error


@dataclass(frozen=True)
class Prediction:
    """What the model says of one photo.

    Attributes:
        image: what was asked, a path as it was given or None for pixels.
        label: the most probable class's name; empty where the photo could not be read.
        confidence: its probability by the bundle's temperature, in [0, 1]; None where the photo could not be read.
        status: `ok`, `unsure` (confidence below what was asked for), or `failed: ` and the reason.
        top: class names with their probabilities, most probable first.
    """

    image: str | None
    label: str
    confidence: float | None
    status: str
    top: tuple[tuple[str, float], ...]


class Answering(abc.ABC):
    """What knows classes and gives logits of photos: one classifier, or several as one.

    Attributes:
        classes: names, in the order of the logits.
        temperature: probabilities are the softmax of logits / temperature.
    """

    classes: tuple[str, ...]
    temperature: float

    @abc.abstractmethod
    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """Each source with its (num_classes,) logits, or with None and the reason."""

    def predict(
        self,
        images: Iterable[Source],
        *,
        top: int = 1,
        batch_size: int = BATCH_SIZE,
        unsure_below: float | None = None,
    ) -> list[Prediction]:
        """Predicts photos; one that cannot be read becomes a prediction whose status says why.

        Args:
            images: paths, PIL images (turned by their EXIF orientation, as files are), or arrays: (height, width, 3) or
                (height, width) uint8.
            top: how many classes `Prediction.top` holds.
            batch_size: photos that are computed at once.
            unsure_below: in (0, 1]; the status of a prediction with less confidence is `unsure`. None: no matter.

        Returns:
            One prediction an image, in their order.

        Raises:
            UsageError: a single image instead of several, or `unsure_below` out of range.
        """
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            raise UsageError("predict takes a list of photos; put a single one into [ ]")
        return list(self.stream(images, top=top, batch_size=batch_size, unsure_below=unsure_below))

    def stream(
        self,
        images: Iterable[Source],
        *,
        top: int = 1,
        batch_size: int = BATCH_SIZE,
        unsure_below: float | None = None,
    ) -> Iterator[Prediction]:
        """As `predict`, one after the other, with bounded memory however many there are."""
        demand_threshold(unsure_below)
        answers = self.logits(images, batch_size=batch_size)
        return told(answers, self.classes, self.temperature, top, unsure_below)


class Predictor(Answering):
    """A trained classifier.

    Input of its engine: `images`, (batch, 3, image_size_px, image_size_px) float32, RGB, normalised by
    `preprocessing`; output: (batch, num_classes) logits. Where `preprocessing.flips` is horizontal, logits are the mean
    over a photo and its mirror image (after Krizhevsky et al. 2012, section 4.1, who average probabilities, and over
    crops as well). Probabilities are the softmax of logits / `temperature`, which changes how sure the classifier is
    and never which class comes first.
    """

    def __init__(
        self,
        engine: Engine,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        max_megapixels: float = 200,
        temperature: float | None = None,
        *,
        draft: bool = False,
    ) -> None:
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.max_megapixels = max_megapixels
        self.temperature = 1.0 if temperature is None else temperature
        self.is_calibrated = temperature is not None
        is_mirrored = preprocessing.flips == "horizontal" and not isinstance(engine, Serving)  # which does it itself
        self._engine = mirrored(engine) if is_mirrored else engine
        self._least_px = DRAFT_FACTOR * preprocessing.resize_px if draft else None
        self._smaller: collections.deque[None] = collections.deque()  # appended to by threads

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Predictor":
        """The same network with photos of another size or crop, which its engine must take.

        Args:
            preprocessing: with the flips of this one, which its engine computes.
        """
        assert preprocessing.flips == self.preprocessing.flips
        other = copy.copy(self)
        other.preprocessing = preprocessing
        return other

    @property
    def served_by(self) -> str:
        """Which engine computed what was predicted so far, such as `openvino in bf16`; empty where nobody can tell."""
        return self._engine.sentence() if isinstance(self._engine, Serving) else ""

    @property
    def decoded_smaller(self) -> int:
        """How many large JPEGs were decoded at reduced size so far."""
        return len(self._smaller)

    @property
    def engine_batch_size(self) -> int:
        """How many photos its engine takes best at once."""
        return self._engine.batch_size if isinstance(self._engine, Serving) else BATCH_SIZE

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known of its engines: those that were left, and why."""
        return tuple(self._engine.remarks) if isinstance(self._engine, Serving) else ()

    def probabilities(
        self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Any, npt.NDArray[np.float64] | None, str]]:
        """Each source with its (num_classes,) calibrated probabilities, or with None and the reason."""
        for source, logits, reason in self.logits(images, batch_size=batch_size):
            yield source, None if logits is None else _softmax(logits, self.temperature), reason

    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """Each source with its (num_classes,) logits as the network gave them, or with None and the reason."""
        least_px = self._least_px
        if isinstance(self._engine, Serving):
            self._engine.expect(len(images) if isinstance(images, Sized) else None)
            # What only the plain model can serve is decoded as when it was judged.
            least_px = least_px if self._engine.may_leave_plain(batch_size) else None
        for inputs in in_order(images, functools.partial(self._load, least_px=least_px), batch_size):
            answers = iter(self._answers(inputs.images))
            for source, reason in zip(inputs.sources, inputs.reasons, strict=True):
                yield source, None if reason else next(answers), reason

    def _answers(self, images: torch.Tensor) -> npt.NDArray[np.float32]:
        if not len(images):
            return np.empty((0, len(self.classes)), dtype=np.float32)
        return self._engine(normalize(images, self.preprocessing))

    def _load(self, source: Source, least_px: int | None) -> torch.Tensor:
        image = _as_image(source, self.max_megapixels, least_px)
        if SMALLER in image.info:
            self._smaller.append(None)
        return pixels(center(image, self.preprocessing))


def told(
    answers: Iterable[Answer],
    classes: Sequence[str],
    temperature: float,
    top: int,
    unsure_below: float | None,
) -> Iterator[Prediction]:
    """Logits as predictions; arguments as of `Predictor`."""
    for source, logits, reason in answers:
        name = str(source) if isinstance(source, str | Path) else None
        if logits is not None and not np.isfinite(logits).all():
            logits, reason = None, "the model's answer is no finite number; train it again"
        if logits is None:
            yield Prediction(name, "", None, f"failed: {reason}", ())
            continue
        probabilities = _softmax(logits, temperature)
        # by logits, for a small temperature rounds the probabilities of all but the first to 0
        order = np.argsort(-logits, kind="stable")[: max(1, top)]
        best = tuple((classes[i], float(probabilities[i])) for i in order)
        yield Prediction(name, best[0][0], best[0][1], "unsure" if best[0][1] < (unsure_below or 0.0) else "ok", best)


def _softmax(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    return np.asarray(softmax(logits.astype(np.float64) / temperature))


def demand_threshold(unsure_below: float | None) -> None:
    """Holds a threshold against its range, before any photo.

    Raises:
        UsageError: it is out of range.
    """
    if unsure_below is not None and (problem := problem_with_threshold(unsure_below)):
        raise UsageError(f"unsure_below={unsure_below}: {problem}")


def problem_with_threshold(unsure_below: float) -> str | None:
    """Why a confidence cannot be a threshold; None if it can."""
    return None if 0 < unsure_below <= 1 else "must be above 0 and at most 1"


def _as_image(source: Source, max_megapixels: float, least_px: int | None) -> Image.Image:
    if isinstance(source, str | Path):
        return read_photo(Path(source), max_megapixels, least_px)
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
    return as_decoded(source)


def load_predictor(path: str | Path, device: str = "auto", engine: str = PLAIN, *, draft: bool = False) -> Predictor:
    """Loads a run's or a bundle's model.

    Args:
        path: a run or a bundle.
        device: `auto`, `cpu` or `cuda:N`.
        engine: what computes: `plain` (fp32, as it was judged), `folded`, `compiled`, `openvino`, or `auto` (the
            fastest for this machine, network and number of photos). One that is not plain is held against the plain one
            on the first photos; see `docs/performance.md`.
        draft: decode a large JPEG at a half, a quarter or an eighth of its size, where that leaves `DRAFT_FACTOR` times
            the side that it is resized to, and where another engine than `plain` may serve; much faster, and its pixels
            differ a little. How many there were stands in `Predictor.decoded_smaller`.

    Raises:
        UsageError: no bundle there, a damaged one, no such device, or no such engine.
    """
    chosen = choose_device(device)
    classifier, description = load_classifier(find_bundle(Path(path)))
    is_as_trained = description.calibration is None and description.temperature == 1.0
    preprocessing = Preprocessing.from_dict(description.preprocessing)
    side, batch = preprocessing.image_size_px, ENGINE_BATCH[chosen.type]
    is_mirrored = preprocessing.flips == "horizontal"
    speeds = Speeds(key(description.architecture, side, batch, chosen, is_mirrored=is_mirrored), Kept.of_user().folder)
    return Predictor(
        Serving(classifier, chosen, engine, side, batch, speeds, is_mirrored=is_mirrored),
        description.classes,
        preprocessing,
        description.max_megapixels,
        temperature=None if is_as_trained else description.temperature,
        draft=draft,
    )
