"""Batches of fused augmentations, made by threads: OpenCV lets go of Python's lock while it works."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from fieldguide.data.augment.fused import FusedAugment, Pixels, one_thread_a_call
from fieldguide.data.augment.reference import photo_seed
from fieldguide.data.batch.batches import Batch, LabelledPhoto
from fieldguide.data.batch.order import SHUFFLED, WHOLE, Order, Share, cut, epoch_order
from fieldguide.data.read.photo_pixels import PhotoPixels
from fieldguide.data.read.prefetch import prefetched
from fieldguide.world import cores

PHOTOS_A_TASK = 8  # one task a photo would spend as long on the task as on the photo


class _Task(NamedTuple):
    """A few photos of one batch, each with its draw: where they go, and the batch if they are its last."""

    rows: Pixels
    photos: Sequence[tuple[LabelledPhoto, int]]
    done: Batch | None


class FusedBatches:
    """As `Batches`; images are views of (batch, height, width, 3), which is channels_last for torch."""

    def __init__(
        self,
        photos: Sequence[LabelledPhoto],
        augmentations: Mapping[str, FusedAugment],
        pixels: PhotoPixels,
        *,
        side_px: int,
        seed: int,
        batch_size: int,
        workers: int | None = None,
    ) -> None:
        """Prepares batches of photos in a stable order, made by `workers` threads; None: one a core.

        `epoch` is asked for one of the augmentations. The last batch may have fewer photos than others, or one more.
        """
        self.photos = photos
        self.labels = [photo.label for photo in photos]
        self.augmentations = augmentations
        self.pixels = pixels
        self.side_px = side_px
        self.seed = seed
        self.batch_size = batch_size
        self.threads = max(1, min(cores(), 16) if workers is None else workers)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return len(cut(range(len(self.photos)), self.batch_size))

    def epoch(
        self, augmentation: str, epoch: int, first_step: int = 0, *, order: Order = SHUFFLED, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """As `Batches.epoch`."""
        augment = self.augmentations[augmentation]

        def work(task: _Task) -> Batch | None:
            for (photo, draw), output in zip(task.photos, task.rows, strict=True):
                augment(self.pixels.read(photo), photo_seed(self.seed, epoch, photo.file, draw), output)
            return task.done

        # Two batches at least, and enough photos for every thread.
        ahead = -(-2 * max(self.batch_size, PHOTOS_A_TASK * self.threads) // min(self.batch_size, PHOTOS_A_TASK))
        with one_thread_a_call():
            for done in prefetched(self._tasks(epoch, first_step, order, share), work, self.threads, ahead):
                if done is not None:
                    yield done

    def _tasks(self, epoch: int, first_step: int, order: Order, share: Share) -> Iterator[_Task]:
        batches = epoch_order(self.labels, self.batch_size, self.seed, epoch, order=order)
        for turns in batches[first_step:]:
            photos = [(self.photos[turn.photo], turn.draw) for turn in share.taken(turns)]
            images = torch.empty(len(photos), self.side_px, self.side_px, 3, dtype=torch.uint8)
            batch = Batch(
                images.permute(0, 3, 1, 2),
                torch.tensor([photo.label for photo, _ in photos]),
                tuple(self.photos[turn.photo].file for turn in turns),
            )
            for start in range(0, len(photos), PHOTOS_A_TASK):
                stop = start + PHOTOS_A_TASK
                last = stop >= len(photos)
                yield _Task(images[start:stop].numpy(), photos[start:stop], batch if last else None)
