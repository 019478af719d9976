"""An exported folder as what predicts photos, for `predict`, `evaluate` and the proof."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from fieldguide.data.read.decode import UnreadableError
from fieldguide.data.read.prefetch import prefetched
from fieldguide.data.read.preprocess import Preprocessing, center
from fieldguide.data.read.reading import Reading
from fieldguide.deploy.answers import Answer, Answering
from fieldguide.deploy.counted import Counted, PhotoCounter
from fieldguide.deploy.export.formats import demand_format
from fieldguide.deploy.export.runtime import Runtime
from fieldguide.deploy.names import BATCH_SIZE
from fieldguide.deploy.photos import as_image
from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.world import cores

MOST_TOGETHER = 8
MOST_PIXELS_TOGETHER = 4_000_000  # of floats, the resize takes 12 bytes a pixel
LEAST = float(np.finfo(np.float32).tiny)

Pixels = npt.NDArray[np.uint8]
Loaded = tuple[Any, Pixels | None, str]  # a photo, its pixels or why there are none


@final
class Exported(Answering):
    """An exported model in its own runtime; its logits are the logarithms of the probabilities that it gives."""

    temperature = 1.0
    is_calibrated_inside = True

    def __init__(self, runtime: Runtime, name: str) -> None:
        """Joins an opened file with the decoding that it asks for; `name` is the runtime's.

        Raises:
            UsageError: the metadata in the file is damaged.
        """
        about = dict(runtime.about)
        try:
            self.classes = tuple(map(str, about["classes"]))
            self.is_calibrated, self.max_megapixels = bool(about["is_calibrated"]), float(about["max_megapixels"])
            self._reading = _reading_of(about)
            self._takes_photos = about["takes"] == "photo"
            self._preprocessing = Preprocessing.from_dict(about["preprocessing"][0])
        except (KeyError, IndexError, TypeError) as error:
            raise UsageError(f"the model's metadata is damaged ({type(error).__name__}: {error})") from None
        self.about = about
        self._runtime, self._name = runtime, name
        self._counter = PhotoCounter()

    @property
    def served_by(self) -> str:
        """See `Answering`."""
        return self._name

    @property
    def counted(self) -> Counted:
        """See `Answering`; an export decodes at full size."""
        return self._counter.told()

    @property
    def engine_batch_size(self) -> int:
        """See `Answering`."""
        return BATCH_SIZE

    @property
    def engines(self) -> tuple[str, ...]:
        """See `Answering`."""
        return (self._name,)

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `Answering`."""
        return ()

    def raise_bound(self, max_megapixels: float) -> None:
        """See `Answering`."""
        self.max_megapixels = max_megapixels

    def settle(self, engines: Sequence[str]) -> None:
        """See `Answering`; there is one runtime."""

    def ready_for_few(self) -> None:
        """See `Answering`; there is one runtime."""

    def answered(self, loaded: Sequence[Pixels]) -> list[npt.NDArray[np.float32]]:
        """See `Answering`; photos of one size are computed together."""
        of_size: dict[tuple[int, ...], list[int]] = {}
        for place, pixels in enumerate(loaded):
            of_size.setdefault(pixels.shape, []).append(place)
        answers: dict[int, npt.NDArray[np.float32]] = {}
        for places in of_size.values():
            for together in _of_one_size((place, loaded[place], "") for place in places):
                rows = self._computed([pixels for _, pixels, _ in together if pixels is not None])
                answers |= {place: row for (place, _, _), row in zip(together, rows, strict=True)}
        return [answers[place] for place in range(len(loaded))]

    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """See `Answering`."""
        loaded = prefetched(images, self._attempt, most_ahead=max(MOST_TOGETHER, cores()) + 1)
        for together in _of_one_size(loaded):
            answers = iter(self._computed([pixels for _, pixels, _ in together if pixels is not None]))
            for source, pixels, reason in together:
                yield source, None if pixels is None else next(answers), reason

    def load(self, source: Any) -> Pixels:
        """A photo to what the file takes: (height, width, 3) uint8.

        Raises:
            UnreadableError: with the reason.
        """
        image = as_image(source, replace(self._reading, max_megapixels=self.max_megapixels), None)
        self._counter.note(image)
        return np.array(image if self._takes_photos else center(image, self._preprocessing))

    def readable(self, photos: Iterable[Path]) -> list[Path]:
        """Those photos that can be read."""
        return [path for path, pixels, _ in map(self._attempt, photos) if pixels is not None]

    def compute(self, photos: Pixels) -> npt.NDArray[np.float32]:
        """(batch, height, width, 3) uint8 to (batch, num_classes) probabilities, as the file gives them."""
        return self._runtime.compute(photos)

    def _attempt(self, source: Any) -> Loaded:
        try:
            return source, self.load(source), ""
        except UnreadableError as error:
            return source, None, str(error)
        except MemoryError:
            return source, None, "needs more memory than is available"

    def _computed(self, pixels: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        if not pixels:
            return np.empty((0, len(self.classes)), np.float32)
        probabilities = self.compute(np.stack(pixels)).astype(np.float64)
        # a probability that a float rounds to 0 has no logarithm; NaN stays NaN, and its readers say so
        return np.log(np.maximum(probabilities, LEAST)).astype(np.float32)


def _reading_of(about: dict[str, Any]) -> Reading:
    """How photos are decoded for an export; its graph makes them square where they should be.

    Raises:
        UsageError: the metadata is damaged.
    """
    reading = Preprocessing.from_dict(about["preprocessing"][0]).reading
    inside = about["takes"] == "photo"
    return replace(reading, max_megapixels=float(about["max_megapixels"]), fit="crop" if inside else reading.fit)


def _of_one_size(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    """Neighbours of one size together, so many that memory stays bounded; unreadable ones go along."""
    together: list[Loaded] = []
    shape: tuple[int, ...] = ()
    for one in loaded:
        own = one[1].shape if one[1] is not None else shape
        full = len(together) >= MOST_TOGETHER or (own[:1] and len(together) * own[0] * own[1] > MOST_PIXELS_TOGETHER)
        if together and (full or (shape and own != shape)):
            yield together
            together, shape = [], ()
        together.append(one)
        shape = own or shape
    if together:
        yield together


def open_variant(folder: Path, format_name: str, file: str) -> Exported:
    """A file of an export that is being written, or was; see `load_exported`.

    Raises:
        UsageError: a package is missing, or the file cannot be opened.
    """
    format = demand_format(format_name, to_run=True)
    try:
        runtime = format.run(folder / file)
    except UsageError:
        raise
    except Exception as error:  # each runtime has errors of its own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"{folder / file}: {format.runtime} cannot open it ({first})") from None
    return Exported(runtime, format.runtime)


def load_exported(path: str | Path, *, allow_int8: bool = False) -> Exported:
    """Opens the model of an exported folder, after a look at its checksums; if `allow_int8`, its file in int8.

    Raises:
        UsageError: not an export, or a damaged one, or its runtime is not installed, or it has no int8.
    """
    folder = ExportFolder(Path(path))
    said = folder.read()
    wanted = "int8" if allow_int8 else said["serves"]
    variant = next((each for each in said["variants"] if each["name"] == wanted), None)
    if variant is None:
        raise UsageError(f"--allow-int8: {path} has no file in int8; leave it out, or export again with --int8")
    folder.demand_whole(variant["sha256"])
    made = open_variant(folder.path, said["runtime"], variant["file"])
    if list(made.classes) != list(said.get("classes", ())):
        raise UsageError(f"{folder.description}: its classes are not those in the model; export again")
    return made
