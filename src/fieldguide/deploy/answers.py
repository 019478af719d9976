"""Predictions, and what a classifier and an ensemble have in common."""

import abc
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from fieldguide.deploy.counted import Counted
from fieldguide.deploy.names import BATCH_SIZE
from fieldguide.deploy.photos import Photo, demand_several
from fieldguide.errors import PhotosError, UsageError, counted, listing

Answer = tuple[Any, npt.NDArray[np.float32] | None, str]  # a photo, its (num_classes,) logits or why there are none
Unreadable = Literal["raise", "nan"]


class Status(enum.StrEnum):
    """How a prediction ended; each equals its text, such as `"ok"`."""

    OK = "ok"
    UNSURE = "unsure"  # less confident than `unsure_below`
    FAILED = "failed"  # the photo cannot be read, or the model gave NaN or infinity


@dataclass(frozen=True)
class Prediction:
    """The prediction for one photo.

    Attributes:
        image: the path as it was given; None for bytes, files and pixels.
        label: name of the most probable class; empty if it failed.
        confidence: its calibrated probability, in [0, 1]; None if it failed.
        status: ok, unsure or failed.
        top: class names with their probabilities, most probable first.
        reason: why it failed; empty if it did not.
    """

    image: str | None
    label: str
    confidence: float | None
    status: Status
    top: tuple[tuple[str, float], ...]
    reason: str = ""

    @property
    def status_text(self) -> str:
        """As written to a CSV: `ok`, `unsure`, or `failed: ` and the reason."""
        return f"{self.status}: {self.reason}" if self.reason else str(self.status)

    def __repr__(self) -> str:
        name = "" if self.image is None else f"{self.image!r}, "
        answer = self.status_text if self.confidence is None else f"{self.label!r}, {self.confidence:.4f}"
        return f"Prediction({name}{answer}{', unsure' if self.status is Status.UNSURE else ''})"


class Answering(abc.ABC):
    """What predicts photos: one classifier, or an ensemble.

    Attributes:
        classes: names, in the order of the logits.
        temperature: probabilities are the softmax of logits / temperature.
        is_calibrated: whether the temperature was fitted.
        max_megapixels: a larger photo is unreadable.
        is_calibrated_inside: whether logits are of an export, which has its temperature inside.
    """

    is_calibrated_inside = False
    classes: tuple[str, ...]
    temperature: float
    is_calibrated: bool
    max_megapixels: float

    @property
    @abc.abstractmethod
    def served_by(self) -> str:
        """Which engine computed so far, such as `openvino in bf16`; empty if unknown."""

    @property
    @abc.abstractmethod
    def counted(self) -> Counted:
        """How photos were read so far."""

    @property
    @abc.abstractmethod
    def engine_batch_size(self) -> int:
        """The batch size that suits its engine."""

    @property
    @abc.abstractmethod
    def engines(self) -> tuple[str, ...]:
        """The engine of each model, once the first photos are computed."""

    @abc.abstractmethod
    def raise_bound(self, max_megapixels: float) -> None:
        """Reads photos of so many megapixels."""

    @abc.abstractmethod
    def settle(self, engines: Sequence[str]) -> None:
        """Lets `auto` choose the engines that it chose before, as `engines` gave them."""

    @property
    @abc.abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """Which engines failed and why, as sentences."""

    @abc.abstractmethod
    def ready_for_few(self) -> None:
        """Keeps the engine that `auto` chose for the photos before, and prepares it for few photos at once."""

    @abc.abstractmethod
    def load(self, photo: Photo) -> Any:
        """A photo as `answered` takes it; several threads may call it.

        Raises:
            UnreadableError: with the reason, as the end of a sentence.
        """

    @abc.abstractmethod
    def answered(self, loaded: Sequence[Any]) -> Sequence[npt.NDArray[np.float32]]:
        """The (num_classes,) logits of photos that `load` gave, computed together; one thread may call it."""

    @abc.abstractmethod
    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """Each photo with its (num_classes,) logits as the network gave them, or with None and the reason."""

    def predict(
        self,
        images: Iterable[Photo],
        *,
        top: int = 1,
        batch_size: int = BATCH_SIZE,
        unsure_below: float | None = None,
    ) -> list[Prediction]:
        """Predicts photos; if one cannot be read, the status of its prediction is failed.

        Args:
            images: each a path; the bytes of a file, or a file opened with mode "rb"; a PIL image (turned by its EXIF
                orientation, as files are); an array, (height, width, 3) RGB, (height, width, 4) RGBA or (height, width)
                gray, uint8; or a torch tensor, (3, height, width) RGB, uint8 or floats in [0, 1].
            top: classes listed in `Prediction.top`.
            batch_size: photos computed at once.
            unsure_below: in (0, 1]; a prediction with less confidence is `unsure`. None: no limit.

        Returns:
            One prediction per photo, in their order.

        Raises:
            UsageError: a single photo instead of several, or `top` or `unsure_below` out of range.
        """
        demand_several(images, "predict")
        return list(self.stream(images, top=top, batch_size=batch_size, unsure_below=unsure_below))

    def stream(
        self,
        images: Iterable[Photo],
        *,
        top: int = 1,
        batch_size: int = BATCH_SIZE,
        unsure_below: float | None = None,
    ) -> Iterator[Prediction]:
        """As `predict`, one prediction after the other, for any number of photos in bounded memory."""
        demand_threshold(unsure_below)
        if top < 1:
            raise UsageError(f"top {top}: must be 1 or more")
        return self.predictions(self.logits(images, batch_size=batch_size), top=top, unsure_below=unsure_below)

    def predictions(self, answers: Iterable[Answer], *, top: int, unsure_below: float | None) -> Iterator[Prediction]:
        """What `stream` makes of the logits of each photo."""
        return _predictions(answers, self.classes, self.temperature, top, unsure_below)

    def predict_proba(
        self, images: Iterable[Photo], *, batch_size: int = BATCH_SIZE, unreadable: Unreadable = "raise"
    ) -> npt.NDArray[np.float32]:
        """Predicts the probability of each class.

        Args:
            images: as for `predict`.
            batch_size: photos computed at once.
            unreadable: `raise`, or `nan`: a row of NaN for each photo that cannot be read.

        Returns:
            (photos, classes) float32, calibrated, classes as in `classes`.

        Raises:
            UsageError: a single photo instead of several, or another word for `unreadable`.
            PhotosError: photos that cannot be read, unless `unreadable` is `nan`; all are named.
        """
        demand_several(images, "predict_proba")
        answers = map(finite, self.logits(images, batch_size=batch_size))
        return in_rows(
            (
                (photo, None if row is None else _softmax(row, self.temperature), reason)
                for photo, row, reason in answers
            ),
            lambda: len(self.classes),
            unreadable,
        )


def finite(answer: Answer) -> Answer:
    """The answer, or a reason if it is not finite."""
    photo, logits, reason = answer
    if logits is not None and not np.isfinite(logits).all():
        return photo, None, "the model's answer is not finite; train it again"
    return photo, logits, reason


def in_rows(
    answers: Iterable[tuple[Any, npt.NDArray[Any] | None, str]], width: Callable[[], int], unreadable: Unreadable
) -> npt.NDArray[np.float32]:
    """Answers as an array, (photos, width) float32; see `Answering.predict_proba`."""
    if unreadable not in ("raise", "nan"):
        raise UsageError(f"unreadable {unreadable}: must be raise or nan")
    rows, failed = [], []
    for number, (photo, row, reason) in enumerate(answers):
        rows.append(row)
        if row is None:
            failed.append(f"{photo if isinstance(photo, str | Path) else f'photo {number}'} {reason}")
    if failed and unreadable == "raise":
        raise PhotosError(
            f"{counted(len(failed), 'photo')} cannot be read:\n{listing(failed)}\n"
            'Leave them out, or get rows of NaN for them by unreadable="nan"'
        )
    found = np.full(
        (len(rows), next((len(row) for row in rows if row is not None), None) or width()), np.nan, np.float32
    )
    for number, row in enumerate(rows):
        if row is not None:
            found[number] = row
    return found


def sentences_on_values(predictor: Answering) -> list[str]:
    """How photos with more than 8 bits were read, where a person should know it."""
    told = []
    if count := predictor.counted.undecided:
        told.append(
            f"{counted(count, 'photo')} with more than 8 bits, unlike the model's training photos: black to white is 0 "
            "to 65,535, or 0 to 1 for floats, so they may be too dark. Save them as the training photos were saved, or "
            "train with such photos"
        )
    if count := predictor.counted.clipped:
        told.append(f"{counted(count, 'photo')} with values outside the model's data.value_range, which are clipped")
    return told


def _predictions(
    answers: Iterable[Answer],
    classes: Sequence[str],
    temperature: float,
    top: int,
    unsure_below: float | None,
) -> Iterator[Prediction]:
    for photo, logits, reason in map(finite, answers):
        name = str(photo) if isinstance(photo, str | Path) else None
        if logits is None:
            yield Prediction(name, "", None, Status.FAILED, (), reason)
            continue
        probabilities = _softmax(logits, temperature)
        # sorted by logits, since a small temperature rounds all probabilities but the first to 0
        order = np.argsort(-logits, kind="stable")[:top]
        best = tuple((classes[i], float(probabilities[i])) for i in order)
        status = Status.UNSURE if best[0][1] < (unsure_below or 0.0) else Status.OK
        yield Prediction(name, best[0][0], best[0][1], status, best)


def _softmax(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    return np.asarray(softmax(logits.astype(np.float64) / temperature))


def demand_threshold(unsure_below: float | None) -> None:
    """Checks a threshold before any photo is read.

    Raises:
        UsageError: it is out of range.
    """
    if unsure_below is not None and (problem := problem_with_threshold(unsure_below)):
        raise UsageError(f"unsure_below {unsure_below}: {problem}")


def problem_with_threshold(unsure_below: float) -> str | None:
    """What is wrong with a threshold; None if nothing."""
    return None if 0 < unsure_below <= 1 else "must be above 0 and at most 1"
