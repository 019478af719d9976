"""Shuffled batches of photos that worker processes decode and augment one by one."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Dataset

from fieldguide.data.augment.reference import Augment, photo_seed
from fieldguide.data.batch.batches import Batch, LabelledPhoto
from fieldguide.data.batch.guard import demand_guard
from fieldguide.data.batch.order import SHUFFLED, WHOLE, Order, Share, cut, epoch_order
from fieldguide.data.read.decode import UnreadableError, read_photo
from fieldguide.data.read.preprocess import pixels
from fieldguide.data.read.reading import AnyReading
from fieldguide.errors import PhotosError
from fieldguide.world import cores

FEW_PHOTOS = 256  # below this, starting workers takes longer than they save


class TrainingBatches:
    """Shuffled batches of photos that worker processes decode and augment one by one."""

    def __init__(
        self,
        photos: Sequence[LabelledPhoto],
        augmentations: Mapping[str, Augment],
        *,
        seed: int,
        batch_size: int,
        reading: AnyReading,
        workers: int | None = None,
    ) -> None:
        """Prepares batches of photos in a stable order, by `workers` processes; None: one a core, none for few photos.

        `epoch` is asked for one of the augmentations. The last batch may have fewer photos than others, or one more.
        """
        self.photos = photos
        self.labels = [photo.label for photo in photos]
        self.seed = seed
        self.batch_size = batch_size
        if workers is None:
            workers = min(cores(), 16) if len(photos) >= FEW_PHOTOS else 0
        if workers:
            demand_guard()
        self._plan: list[list[tuple[str, int, int]]] = []  # of each epoch anew
        self._make_loader: Callable[[], DataLoader[Item]] = functools.partial(
            DataLoader,
            _Augmented(photos, augmentations, reading),
            batch_sampler=self._plan,
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

    def epoch(
        self, augmentation: str, epoch: int, first_step: int = 0, *, order: Order = SHUFFLED, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """As `Batches.epoch`."""
        batches = epoch_order(self.labels, self.batch_size, self.seed, epoch, order=order)[first_step:]
        self._plan[:] = [
            [
                (augmentation, i, photo_seed(self.seed, epoch, self.photos[i].file, draw))
                for i, draw in share.taken(batch)
            ]
            for batch in batches
        ]
        for made, batch in zip(self._loader, batches, strict=True):
            if isinstance(made, str):
                raise PhotosError(f"{made}; it was readable when the training began. Training stops")
            yield replace(made, files=tuple(self.photos[turn.photo].file for turn in batch))


Item = tuple[torch.Tensor, int, str] | str


class _Augmented(Dataset[Item]):
    """Photo by photo; a photo that cannot be read becomes a sentence, since exceptions lose their words on the way."""

    def __init__(
        self, photos: Sequence[LabelledPhoto], augmentations: Mapping[str, Augment], reading: AnyReading
    ) -> None:
        self.photos = photos
        self.augmentations = augmentations
        self.reading = reading

    def __getitem__(self, key: tuple[str, int, int]) -> Item:
        augmentation, place, seed = key
        photo = self.photos[place]
        try:
            image = read_photo(photo.path, self.reading, content_hash=photo.content_hash)
        except UnreadableError as error:
            return f"{photo.file} {error}"
        return pixels(self.augmentations[augmentation](image, seed)), photo.label, photo.file


def _collate(items: list[Item]) -> Batch | str:
    good = [item for item in items if not isinstance(item, str)]
    if len(good) < len(items):
        return "; ".join(item for item in items if isinstance(item, str))
    images, labels, files = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), tuple(files))
