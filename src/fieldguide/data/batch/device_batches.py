"""Batches of fused augmentations made on the device: pixels lie in its memory, and a batch is a few large operations.

What is drawn is what `fused.py` draws, and comes to the same warp and the same colours. Only the filter differs: the
device takes the mean of `samples` x `samples` bilinear samples a pixel, with edges of the crop repeated, where OpenCV
halves the photo first. Nothing here waits for the device, and torch's generators are not touched.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.data.augment.device_extras import apply_extras, extras_of, names_of
from fieldguide.data.augment.draw import draw
from fieldguide.data.augment.erasing import fill_colour
from fieldguide.data.augment.on_device import augment_batch, numbers_of, samples_for
from fieldguide.data.augment.reference import photo_seed
from fieldguide.data.batch.batches import Batch, LabelledPhoto
from fieldguide.data.batch.order import SHUFFLED, WHOLE, Order, Share, Turn, cut, epoch_order
from fieldguide.data.read.photo_pixels import PhotoPixels
from fieldguide.data.read.prefetch import prefetched
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.settings import Policy

RESIDENT_THREADS, STREAMING_THREADS = 2, 8  # the first only draw numbers, the others read and perhaps decode
PIECE_BYTES = 64_000_000


@dataclass(frozen=True)
class HostBatch:
    """A batch as numbers, made by a thread."""

    numbers: torch.Tensor  # (batch, 34) float32, a row of `numbers_of` a photo
    places: torch.Tensor  # (batch, 2) int64: where a photo begins among the pixels, and its width
    pixels: torch.Tensor | None  # (pixels, 3) uint8 of this batch; None where the device has them
    labels: torch.Tensor
    files: tuple[str, ...]
    extras: torch.Tensor | None = None  # (batch, 12) float32, a row of `extras_of` a photo; None: nothing to do
    names: frozenset[str] = frozenset()  # what there is to do, of `names_of`


class DeviceBatches:
    """As `Batches`, with images and labels on the device."""

    def __init__(
        self,
        photos: Sequence[LabelledPhoto],
        policies: Mapping[str, Policy],
        pixels: PhotoPixels,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        seed: int,
        batch_size: int,
        most_resident_bytes: int = 0,
        workers: int | None = None,
    ) -> None:
        """Prepares batches; `make_resident` copies the photos to the device.

        Args:
            photos: what to train on, in a stable order.
            policies: by name; `epoch` is asked for one of them.
            most_resident_bytes: as of `make_resident`; 0: each batch's pixels are copied when it is made.
            workers: threads; None: few where the device has the pixels, more where it has not.
        """
        self.photos = photos
        self.labels = [photo.label for photo in photos]
        self.policies = policies
        self.pixels = pixels
        self.preprocessing = preprocessing
        self.device = device
        self.seed = seed
        self.batch_size = batch_size
        self.samples = samples_for(pixels.side_px, preprocessing.image_size_px)
        self._erased_colour = torch.tensor(fill_colour(preprocessing.mean), dtype=torch.uint8, device=device)
        self._resident: torch.Tensor | None = None
        self._starts: list[int] = []
        self._workers = workers
        self.make_resident(most_resident_bytes)

    @property
    def threads(self) -> int:
        """How many make batches."""
        chosen = RESIDENT_THREADS if self.is_resident else STREAMING_THREADS
        return max(1, chosen if self._workers is None else self._workers)

    def make_resident(self, most_bytes: int) -> None:
        """Copies all photos to the device, where they are cached and take at most so many bytes."""
        if self.is_resident or not all(photo.content_hash in self.pixels for photo in self.photos):
            return
        counts = [int(np.prod(self.pixels.shape(photo.content_hash))) for photo in self.photos]
        if 3 * sum(counts) <= most_bytes:
            self._starts = [0, *np.cumsum(counts).tolist()]
            self._resident = self._copied(self._starts[-1])

    @property
    def is_resident(self) -> bool:
        """Whether the photos lie in the device's memory."""
        return self._resident is not None

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return len(cut(range(len(self.photos)), self.batch_size))

    def epoch(
        self, augmentation: str, epoch: int, first_step: int = 0, *, order: Order = SHUFFLED, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """As `Batches.epoch`."""
        policy = self.policies[augmentation]
        batches = epoch_order(self.labels, self.batch_size, self.seed, epoch, order=order)

        def work(turns: list[Turn]) -> HostBatch:
            made = self._on_host(policy, epoch, share.taken(turns))
            return replace(made, files=tuple(self.photos[turn.photo].file for turn in turns))

        for made in prefetched(batches[first_step:], work, self.threads, self.threads + 2):
            numbers, places, labels = (
                part.to(self.device, non_blocking=True) for part in (made.numbers, made.places, made.labels)
            )
            pixels = self._resident if made.pixels is None else made.pixels.to(self.device, non_blocking=True)
            assert pixels is not None
            images = augment_batch(pixels, places, numbers, self.preprocessing.image_size_px, self.samples)
            if made.extras is not None:
                extras = made.extras.to(self.device, non_blocking=True)
                images = apply_extras(images, extras, made.names, self._erased_colour)
            yield Batch(images, labels, made.files)

    def _on_host(self, policy: Policy, epoch: int, turns: list[Turn]) -> HostBatch:
        photos = [self.photos[turn.photo] for turn in turns]
        starts, loaded = [self._starts[turn.photo] for turn in turns] if self.is_resident else [], []
        shapes = [self.pixels.shape(photo.content_hash) for photo in photos] if self.is_resident else []
        if not self.is_resident:
            loaded = [self.pixels.read(photo) for photo in photos]
            shapes = [(array.shape[0], array.shape[1]) for array in loaded]
            starts = np.cumsum([0, *(height * width for height, width in shapes)]).tolist()[:-1]
        side = self.preprocessing.image_size_px
        drawn = [
            draw(policy, self.preprocessing, width, height, photo_seed(self.seed, epoch, photo.file, turn.draw))
            for turn, photo, (height, width) in zip(turns, photos, shapes, strict=True)
        ]
        rows = [numbers_of(one, side, width, height) for one, (height, width) in zip(drawn, shapes, strict=True)]
        names = names_of(drawn)
        extras = torch.from_numpy(np.stack([extras_of(one, side) for one in drawn])) if names else None
        return HostBatch(
            numbers=self._pinned(torch.from_numpy(np.stack(rows))),
            places=self._pinned(torch.tensor([[s, width] for s, (_, width) in zip(starts, shapes, strict=True)])),
            pixels=self._pinned(_in_a_row(loaded)) if loaded else None,
            labels=self._pinned(torch.tensor([photo.label for photo in photos])),
            files=tuple(photo.file for photo in photos),
            extras=None if extras is None else self._pinned(extras),
            names=names,
        )

    def _copied(self, count: int) -> torch.Tensor:
        """All photos' pixels on the device, (count, 3) uint8, copied in pieces."""
        resident = torch.empty(count, 3, dtype=torch.uint8, device=self.device)
        piece, place = [], 0
        for number, photo in enumerate(self.photos):
            piece.append(self.pixels.read(photo))
            if number == len(self.photos) - 1 or sum(array.nbytes for array in piece) >= PIECE_BYTES:
                flat = _in_a_row(piece)
                resident[place : place + len(flat)].copy_(flat)
                place += len(flat)
                piece = []
        return resident

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.device.type == "cuda" else tensor


def _in_a_row(arrays: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([array.reshape(-1, 3) for array in arrays]))
