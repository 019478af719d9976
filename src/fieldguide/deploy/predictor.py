"""Photos to probabilities: one path for evaluate, predict and the library."""

import functools
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.data.read.inputs import in_order
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.deploy.answers import Answer, Answering, Unreadable, in_rows
from fieldguide.deploy.counted import Counted, PhotoCounter
from fieldguide.deploy.engines import Engine
from fieldguide.deploy.names import AS_TRAINED, BATCH_SIZE, FLIPS, PLAIN
from fieldguide.deploy.openvino_engine import Int8File
from fieldguide.deploy.origin import Computing, Origin
from fieldguide.deploy.photos import Photo, as_image, demand_several
from fieldguide.errors import UsageError
from fieldguide.world import Device

DRAFT_FACTOR = 4  # both sides of a JPEG decoded small keep so many times `resize_px`; with 2, three times the error


@final
class Predictor(Answering):
    """A trained classifier.

    Input of its engine: `images`, (batch, 3, image_size_px, image_size_px) float32, RGB, normalised by
    `preprocessing`; output: (batch, num_classes) logits. Where `preprocessing.flips` is horizontal, logits are the mean
    over a photo and its mirror image (after Krizhevsky et al. 2012, section 4.1, who average probabilities, and over
    crops as well). Probabilities are the softmax of logits / `temperature`, which changes confidences and never which
    class comes first.

    A predictor that was loaded from a bundle pickles as the bundle's place, and is loaded again when it is first used.
    In a forked process it computes on a CPU with the plain engine and one thread; a GPU needs the spawn start method.
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
        backbone: Engine | None = None,
        origin: Origin | None = None,
    ) -> None:
        """Joins an engine with its preprocessing; `load_predictor` loads both from a bundle.

        Args:
            engine: inputs to logits, already the mean with the mirror image where `preprocessing` asks for it.
            temperature: None: none was fitted.
            backbone: inputs to features; None: it gives none.
            origin: where both can be loaded from again.
        """
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.max_megapixels = max_megapixels
        self.temperature = 1.0 if temperature is None else temperature
        self.is_calibrated = temperature is not None
        self._loaded: Computing | None = Computing(engine, backbone)
        self._origin = origin
        self._least_px = DRAFT_FACTOR * preprocessing.resize_px if draft else None
        self._counter = PhotoCounter()

    def __repr__(self) -> str:
        """`Predictor(/home/me/runs/a/bundle, 3 classes, 224 px, calibrated, engine plain, device auto)`."""
        origin, calibrated = self._origin, "calibrated" if self.is_calibrated else "not calibrated"
        about = [f"{len(self.classes):,} classes", f"{self.preprocessing.image_size_px} px", calibrated]
        if origin:
            about = [str(origin.folder), *about, f"engine {origin.engine}", f"device {origin.device}"]
        return f"Predictor({', '.join(about)})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_loaded": None} if self._origin else {})

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Predictor":
        """The same network with photos of another size or crop, which its engine must take.

        Args:
            preprocessing: with the flips of this one, which its engine computes.
        """
        assert preprocessing.flips == self.preprocessing.flips
        other = object.__new__(Predictor)
        other.__dict__.update(self.__dict__ | {"preprocessing": preprocessing})
        return other

    @property
    def _computing(self) -> Computing:
        if self._loaded is None:
            assert self._origin is not None
            self._loaded = self._origin.load_again()
        return self._loaded

    @property
    def served_by(self) -> str:
        """See `Answering`."""
        return self._computing.engine.sentence()

    @property
    def counted(self) -> Counted:
        """See `Answering`."""
        return self._counter.told()

    @property
    def engine_batch_size(self) -> int:
        """See `Answering`."""
        return self._computing.engine.batch_size

    @property
    def engines(self) -> tuple[str, ...]:
        """See `Answering`."""
        return (self._computing.engine.chosen,)

    def raise_bound(self, max_megapixels: float) -> None:
        """See `Answering`."""
        self.max_megapixels = max_megapixels

    def settle(self, engines: Sequence[str]) -> None:
        """See `Answering`."""
        for name in engines[:1]:
            self._computing.engine.settle(name)

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `Answering`."""
        return tuple(self._computing.engine.remarks)

    def ready_for_few(self) -> None:
        """See `Answering`."""
        self._computing.engine.ready_for_few()

    def load(self, photo: Photo) -> torch.Tensor:
        """See `Answering`; (3, image_size_px, image_size_px) uint8."""
        return self._load(photo, self._least_px if self._computing.engine.may_leave_plain(1) else None)

    def answered(self, loaded: Sequence[torch.Tensor]) -> list[npt.NDArray[np.float32]]:
        """See `Answering`."""
        images = torch.stack(list(loaded))  # (batch, 3, image_size_px, image_size_px) uint8
        return list(self._computing.engine.compute(normalize(images, self.preprocessing)))

    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """See `Answering`."""
        engine = self._computing.engine
        engine.expect(len(images) if isinstance(images, Sized) else None)
        # What only the plain engine computes is decoded at full size, as in validation.
        least_px = self._least_px if engine.may_leave_plain(batch_size) else None
        return self._computed(engine, images, batch_size, least_px)

    def features(
        self, images: Iterable[Photo], *, batch_size: int = BATCH_SIZE, unreadable: Unreadable = "raise"
    ) -> npt.NDArray[np.float32]:
        """The pooled features that the head takes, of one stage of the backbone or several; always by the plain engine.

        Args:
            images, batch_size, unreadable: as for `predict_proba`.

        Returns:
            (photos, width) float32; where `preprocessing.flips` is horizontal, the mean over a photo and its mirror
            image.

        Raises:
            UsageError: a single photo instead of several, or another word for `unreadable`.
            PhotosError: photos that cannot be read, unless `unreadable` is `nan`; all are named.
        """
        demand_several(images, "features")
        backbone = self._computing.backbone
        if backbone is None:
            raise UsageError("this predictor was made of an engine alone; load one from a run for features")
        backbone.expect(None)
        side = self.preprocessing.image_size_px
        rows = self._computed(backbone, images, batch_size, None)
        return in_rows(rows, lambda: backbone.compute(torch.zeros(1, 3, side, side)).shape[1], unreadable)

    def _computed(
        self, engine: Engine, images: Iterable[Any], batch_size: int, least_px: int | None
    ) -> Iterator[Answer]:
        for inputs in in_order(images, functools.partial(self._load, least_px=least_px), batch_size):
            rows = engine.compute(normalize(inputs.images, self.preprocessing)) if len(inputs.images) else ()
            answers = iter(rows)
            for source, reason in zip(inputs.sources, inputs.reasons, strict=True):
                yield source, None if reason else next(answers), reason

    def _load(self, source: Photo, least_px: int | None) -> torch.Tensor:
        reading = replace(self.preprocessing.reading, max_megapixels=self.max_megapixels)
        image = as_image(source, reading, least_px)
        self._counter.note(image)
        return pixels(center(image, self.preprocessing))


def load_predictor(
    path: str | Path,
    device: Device = "auto",
    engine: str = PLAIN,
    *,
    draft: bool = False,
    flips: str = AS_TRAINED,
    int8_file: Int8File | None = None,
) -> Predictor:
    """Loads a run's or a bundle's model.

    Args:
        path: a run or a bundle.
        device: `auto`, `cpu`, `cuda:N`, `mps` or a `torch.device`.
        engine: what computes: `plain` (the default here: fp32, as the run was judged), `folded`, `compiled`,
            `openvino`, or `auto` (the default of `fieldguide.predict`: the fastest for this machine, network and number
            of photos). Another engine than plain is checked against plain on the first photos; see
            `docs/performance.md`.
        draft: decode a large JPEG at a half, a quarter or an eighth of its size, where that leaves `DRAFT_FACTOR` times
            the side that it is resized to, and where another engine than `plain` may serve; much faster, and its pixels
            differ a little. `Predictor.counted.smaller` counts them.
        flips: `none` leaves out the mirror images that a bundle asks for: half of the time, and a little less accurate
            than the run was judged.
        int8_file: a proven export in int8 of this bundle, which the engines `int8` and `auto` may then use.

    Raises:
        UsageError: no bundle there, a damaged one, no such device, engine or flips.
    """
    if flips not in FLIPS:
        raise UsageError(f"flips: {flips!r} must be {' or '.join(FLIPS)}")
    origin, computing = Origin.load(path, device, engine, flips, int8_file)
    description = origin.description
    is_as_trained = description.calibration is None and description.temperature == 1.0
    return Predictor(
        computing.engine,
        description.classes,
        origin.preprocessing,
        description.max_megapixels,
        temperature=None if is_as_trained else description.temperature,
        draft=draft,
        backbone=computing.backbone,
        origin=origin,
    )
