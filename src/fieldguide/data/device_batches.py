"""Batches of fused augmentations made on the device: pixels lie in its memory, and a batch is a few large operations.

What is drawn is what `fused.py` draws, and comes to the same warp and the same colours. Only the filter differs: the
device takes the mean of `samples` x `samples` bilinear samples a pixel, with edges of the crop repeated, where OpenCV
halves the photo first. Nothing here waits for the device, and torch's generators are not touched.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fieldguide.data.augment import Policy, photo_seed
from fieldguide.data.batches import Batch, LabelledPhoto
from fieldguide.data.device_extras import apply_extras, extras_of, names_of
from fieldguide.data.draw import Drawn, colours, draw, warp
from fieldguide.data.erasing import fill_colour
from fieldguide.data.order import Turn, cut, epoch_order
from fieldguide.data.photo_pixels import PhotoPixels
from fieldguide.data.prefetch import prefetched
from fieldguide.data.preprocess import Preprocessing

RESIDENT_THREADS, STREAMING_THREADS = 2, 8  # the first only draw numbers, the others read and perhaps decode
PIECE_BYTES = 64_000_000
MOST_SAMPLES = 3


@dataclass(frozen=True)
class HostBatch:
    """A batch as numbers, made by a thread.

    Attributes:
        numbers: (batch, 34) float32, a row of `numbers_of` a photo.
        places: (batch, 2) int64: where a photo begins among the pixels, and its width.
        pixels: (pixels, 3) uint8 of this batch, or None where the device has them.
        extras: (batch, 12) float32, a row of `extras_of` a photo, or None where there is nothing to do.
        names: what there is to do, of `names_of`.
    """

    numbers: torch.Tensor
    places: torch.Tensor
    pixels: torch.Tensor | None
    labels: torch.Tensor
    files: tuple[str, ...]
    extras: torch.Tensor | None = None
    names: frozenset[str] = frozenset()


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
        most_resident_bytes: int,
        workers: int | None = None,
    ) -> None:
        """Prepares batches, and copies the photos to the device where they are cached and fit.

        Args:
            photos: what to train on, in a stable order.
            policies: by name; `epoch` is asked for one of them.
            pixels: where a photo's pixels come from.
            preprocessing: the side of the images.
            device: where they are made.
            seed: of the order and of every photo's random numbers.
            batch_size: photos a step.
            most_resident_bytes: above, each batch's pixels are copied when it is made.
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
        if all(photo.content_hash in pixels for photo in photos):
            counts = [int(np.prod(pixels.shape(photo.content_hash))) for photo in photos]
            if 3 * sum(counts) <= most_resident_bytes:
                self._starts = [0, *np.cumsum(counts).tolist()]
                self._resident = self._copied(self._starts[-1])
        chosen = RESIDENT_THREADS if self.is_resident else STREAMING_THREADS
        self.threads = max(1, chosen if workers is None else workers)

    @property
    def is_resident(self) -> bool:
        """Whether the photos lie in the device's memory."""
        return self._resident is not None

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return len(cut(range(len(self.photos)), self.batch_size))

    def epoch(self, augmentation: str, epoch: int, first_step: int = 0, *, balanced: bool = False) -> Iterator[Batch]:
        """As `Batches.epoch`."""
        policy = self.policies[augmentation]
        order = epoch_order(self.labels, self.batch_size, self.seed, epoch, balanced=balanced)

        def work(turns: list[Turn]) -> HostBatch:
            return self._on_host(policy, epoch, turns)

        for made in prefetched(order[first_step:], work, self.threads, self.threads + 2):
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


def samples_for(side_px: int, image_size_px: int) -> int:
    """How many samples a pixel has on each axis, for photos whose shorter side is `side_px` (0: any size)."""
    scale = side_px / image_size_px if side_px else 2.0
    return max(1, min(MOST_SAMPLES, int(np.ceil(scale / np.sqrt(2)))))


def _in_a_row(arrays: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([array.reshape(-1, 3) for array in arrays]))


def numbers_of(drawn: Drawn, side: int, width: int, height: int) -> npt.NDArray[np.float32]:
    """What the device needs of what was drawn, as a row.

    Columns 0 to 5 are the warp, to 23 the colours, to 27 the edges of the crop, to 31 the first and last pixels in it
    (x, y each), and the last two the shift.
    """
    direct, of_mean = colours(drawn)
    left, top, wide, high = drawn.crop
    edges = [left, top, left + wide, top + high]
    last = [min(width, np.ceil(edges[2])) - 1, min(height, np.ceil(edges[3])) - 1]
    first = [max(0, np.floor(left)), max(0, np.floor(top))]
    return np.concatenate(
        [*warp(drawn, side), direct.ravel(), of_mean.ravel(), edges, first, last, drawn.shift]
    ).astype(np.float32)


def augment_batch(
    pixels: torch.Tensor, places: torch.Tensor, numbers: torch.Tensor, side: int, samples: int
) -> torch.Tensor:
    """Augments a batch.

    Args:
        pixels: (pixels, 3) uint8 of many photos, one after another, row by row.
        places: (batch, 2) int64: where each photo begins, and its width.
        numbers: (batch, 34) float32, rows of `numbers_of`.
        side: of the images.
        samples: a pixel, on each axis.

    Returns:
        (batch, 3, side, side) uint8, channels_last.
    """
    batch, device = len(numbers), pixels.device
    numbers = numbers[:, :, None, None]  # (batch, 34, 1, 1), against (height, width)
    steps = torch.arange(side, device=device, dtype=torch.float32)
    images = torch.zeros(batch, side, side, 3, device=device)
    for down in range(samples):
        for across in range(samples):
            x, y = _source(numbers, steps + (across + 0.5) / samples, steps + (down + 0.5) / samples)
            images += _bilinear(pixels, places, x - 0.5, y - 0.5, numbers)
    x, y = _source(numbers, steps + 0.5, steps + 0.5)
    inside = (x >= numbers[:, 24]) & (y >= numbers[:, 25]) & (x <= numbers[:, 26]) & (y <= numbers[:, 27])
    images = images / samples**2 * inside[..., None]
    shift_x, shift_y = numbers[:, 32], numbers[:, 33]
    seen = ((steps >= shift_x) & (steps < side + shift_x)) & (
        (steps[:, None] >= shift_y) & (steps[:, None] < side + shift_y)
    )
    flat, seen = images.reshape(batch, -1, 3), seen.reshape(batch, -1, 1)
    mean = (flat * seen).sum(dim=1) / seen.sum(dim=1)  # (batch, 3)
    direct, of_mean = numbers[:, 6:15].reshape(batch, 3, 3), numbers[:, 15:24].reshape(batch, 3, 3)
    coloured = torch.baddbmm((of_mean @ mean[:, :, None]).transpose(1, 2), flat, direct.transpose(1, 2))
    made = (coloured.round().clamp(0, 255) * seen).to(torch.uint8)
    return made.reshape(batch, side, side, 3).permute(0, 3, 1, 2)


def _source(numbers: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points of the images, (width,) and (height,), lie in the photos: (batch, height, width) each."""
    y = y[:, None]
    a, b, c, d, e, f = numbers[:, :6].unbind(dim=1)
    return a * x + b * y + c, d * x + e * y + f


def _bilinear(
    pixels: torch.Tensor, places: torch.Tensor, x: torch.Tensor, y: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """(batch, height, width, 3) float32 between the four pixels around each point, which stay within the crop."""
    starts, widths = places[:, 0, None, None], places[:, 1, None, None]
    x = torch.minimum(torch.maximum(x, numbers[:, 28]), numbers[:, 30])
    y = torch.minimum(torch.maximum(y, numbers[:, 29]), numbers[:, 31])
    left, top = x.floor(), y.floor()
    right, bottom = torch.minimum(left + 1, numbers[:, 30]).long(), torch.minimum(top + 1, numbers[:, 31]).long()
    of_right, of_bottom = (x - left)[..., None], (y - top)[..., None]
    upper, lower = starts + top.long() * widths, starts + bottom * widths
    left_column = left.long()
    return (1 - of_bottom) * ((1 - of_right) * pixels[upper + left_column] + of_right * pixels[upper + right]) + (
        of_bottom * ((1 - of_right) * pixels[lower + left_column] + of_right * pixels[lower + right])
    )
