"""Batches of photos: augmented and shuffled for training, in order and untouched for everything else."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from fieldguide.data.augment import Augment, photo_seed
from fieldguide.data.decode import UnreadableError, read_photo
from fieldguide.data.order import cut, epoch_order
from fieldguide.data.preprocess import pixels
from fieldguide.errors import PhotosError
from fieldguide.world import cores

Source = TypeVar("Source")
MOST_KEPT_BYTES = 1_000_000_000  # 6,600 validation photos at 224 px
FEW_PHOTOS = 256  # below this, starting workers takes longer than they save


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo to train on.

    Attributes:
        path: where it lies.
        file: its name in the split; its random numbers depend on it.
        label: index of its class.
        content_hash: SHA-256 of its content, by which its pixels are cached.
    """

    path: Path
    file: str
    label: int
    content_hash: str = ""


@dataclass(frozen=True)
class Batch:
    """Photos for one step.

    Attributes:
        images: (batch, 3, height, width) uint8.
        labels: (batch,) int64.
        files: their names, for messages.
    """

    images: torch.Tensor
    labels: torch.Tensor
    files: tuple[str, ...]


@dataclass(frozen=True)
class Inputs(Generic[Source]):
    """Photos to look at, in the order given.

    Attributes:
        images: (batch, 3, height, width) uint8, of the readable ones.
        sources: every source of this stretch, readable or not.
        reasons: a source's reason, or an empty text where it is in `images`.
    """

    images: torch.Tensor
    sources: tuple[Source, ...]
    reasons: tuple[str, ...]


class Batches(Protocol):
    """Batches to train on; the same for the same (seed, epoch), with any number of workers."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, augmentation: str, epoch: int, first_step: int = 0, *, balanced: bool = False) -> Iterator[Batch]:
        """The batches of one epoch, from a step on.

        Args:
            augmentation: one of the names given.
            epoch: counted over the whole run.
            first_step: so many batches of the epoch are left out, and none of their photos is read.
            balanced: draw each class equally often, in place of each photo once.

        Raises:
            PhotosError: a photo that could be read before cannot be read any more.
        """


class TrainingBatches:
    """Shuffled batches of photos that worker processes decode and augment one by one."""

    def __init__(
        self,
        photos: Sequence[LabelledPhoto],
        augmentations: Mapping[str, Augment],
        *,
        seed: int,
        batch_size: int,
        max_megapixels: float,
        workers: int | None = None,
    ) -> None:
        """Prepares batches.

        Args:
            photos: what to train on, in a stable order.
            augmentations: by name; `epoch` is asked for one of them.
            seed: of the order and of every photo's random numbers.
            batch_size: photos a step; the last batch of an epoch may have fewer, or one more.
            max_megapixels: bound on a photo's size.
            workers: processes that decode and augment; None: one a core, or none for few photos.
        """
        self.photos = photos
        self.labels = [photo.label for photo in photos]
        self.seed = seed
        self.batch_size = batch_size
        if workers is None:
            workers = min(cores(), 16) if len(photos) >= FEW_PHOTOS else 0
        self._sampler = _Plan()
        self._make_loader: Callable[[], DataLoader[Item]] = functools.partial(
            DataLoader,
            _Augmented(photos, augmentations, max_megapixels),
            batch_sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_collate,
            generator=torch.Generator(),  # the loader's own draw must not touch the training's generator
        )
        self._loader = self._make_loader()

    def restart(self) -> None:
        """Gives up the workers, one of which died; the next epoch starts new ones."""
        self._loader = self._make_loader()

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return len(cut(range(len(self.photos)), self.batch_size))

    def epoch(self, augmentation: str, epoch: int, first_step: int = 0, *, balanced: bool = False) -> Iterator[Batch]:
        """As `Batches.epoch`."""
        self._sampler.batches = [
            [(augmentation, i, photo_seed(self.seed, epoch, self.photos[i].file, draw)) for i, draw in batch]
            for batch in epoch_order(self.labels, self.batch_size, self.seed, epoch, balanced=balanced)[first_step:]
        ]
        for made in self._loader:
            if isinstance(made, str):
                raise PhotosError(f"{made}; it could be read when the training began, so the training stops here")
            yield made


class _Plan:
    """A batch sampler whose batches are set anew for each epoch."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[str, int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


Item = tuple[torch.Tensor, int, str] | str


class _Augmented(Dataset[Item]):
    """Photo by photo; a photo that cannot be read becomes a sentence, since exceptions lose their words on the way."""

    def __init__(
        self, photos: Sequence[LabelledPhoto], augmentations: Mapping[str, Augment], max_megapixels: float
    ) -> None:
        self.photos = photos
        self.augmentations = augmentations
        self.max_megapixels = max_megapixels

    def __getitem__(self, key: tuple[str, int, int]) -> Item:
        augmentation, place, seed = key
        photo = self.photos[place]
        try:
            image = read_photo(photo.path, self.max_megapixels, content_hash=photo.content_hash)
        except UnreadableError as error:
            return f"{photo.file} {error}"
        return pixels(self.augmentations[augmentation](image, seed)), photo.label, photo.file


def _collate(items: list[Item]) -> Batch | str:
    good = [item for item in items if not isinstance(item, str)]
    if len(good) < len(items):
        return "; ".join(item for item in items if isinstance(item, str))
    images, labels, files = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), tuple(files))


def in_order(
    sources: Iterable[Source], load: Callable[[Source], torch.Tensor], batch_size: int
) -> Iterator[Inputs[Source]]:
    """Loads sources on all cores, in their order, with bounded memory however many there are.

    Args:
        sources: anything `load` takes.
        load: a source to (3, height, width) uint8; raises UnreadableError or MemoryError where it cannot.
        batch_size: sources in one piece.
    """

    def attempt(source: Source) -> torch.Tensor | str:
        try:
            return load(source)
        except UnreadableError as error:
            return str(error)
        except MemoryError:
            return "needs more memory than there is"

    waiting: collections.deque[tuple[Source, Future[torch.Tensor | str]]] = collections.deque()
    remaining = iter(sources)
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        try:
            while True:
                while len(waiting) < 2 * batch_size:
                    try:
                        source = next(remaining)
                    except StopIteration:
                        break
                    waiting.append((source, pool.submit(attempt, source)))
                if not waiting:
                    return
                piece = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                yield _inputs([(source, future.result()) for source, future in piece])
        finally:
            for _, future in waiting:
                future.cancel()


class KeptInputs(Generic[Source]):
    """What `in_order` gives, loaded again each time it is gone through, or only once where it fits.

    Args:
        sources, load, batch_size: as for `in_order`.
        most_bytes: above, nothing is kept.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        load: Callable[[Source], torch.Tensor],
        batch_size: int,
        most_bytes: int = MOST_KEPT_BYTES,
    ) -> None:
        self._sources = sources
        self._load = load
        self._batch_size = batch_size
        self._most_bytes = most_bytes
        self._kept: list[Inputs[Source]] | None = None

    def __iter__(self) -> Iterator[Inputs[Source]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Inputs[Source]] = []
        taken = 0
        for inputs in in_order(self._sources, self._load, self._batch_size):
            taken += inputs.images.nbytes
            if taken <= self._most_bytes:
                kept.append(inputs)
            else:
                kept.clear()
            yield inputs
        if taken <= self._most_bytes and not any(reason for inputs in kept for reason in inputs.reasons):
            self._kept = kept


def _inputs(loaded: Sequence[tuple[Source, torch.Tensor | str]]) -> Inputs[Source]:
    good = [made for _, made in loaded if isinstance(made, torch.Tensor)]
    return Inputs(
        images=torch.stack(good) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        sources=tuple(source for source, _ in loaded),
        reasons=tuple(made if isinstance(made, str) else "" for _, made in loaded),
    )
