"""Which way a training's photos take from their files to its batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import torch

from fieldguide.data.augment import fused
from fieldguide.data.augment.reference import reference
from fieldguide.data.batch.batches import Batches, LabelledPhoto
from fieldguide.data.batch.device_batches import DeviceBatches
from fieldguide.data.batch.fused_batches import FusedBatches
from fieldguide.data.batch.waiting import Waiting
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.data.read.cache import BOUND, Cache
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.photo_pixels import PhotoPixels
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.read.reading import AnyReading
from fieldguide.errors import UsageError, counted
from fieldguide.settings import Policy
from fieldguide.world import available_bytes, cores

ENLARGED = 2  # where nothing is cached, a large JPEG is decoded to so many times the image size or more
SHARE_OF_DEVICE_MEMORY = 0.75  # of what a step leaves free
NO_OPENCV = (
    "augmentation.engine: fused needs OpenCV on a CPU; install opencv-python-headless, or set augmentation.engine to "
    "reference (torchvision's own transforms, slower)"
)
SLOW_TRANSFORMS = (
    "torchvision's transforms are slow; set execution to fast and augmentation.engine to fused, or add processor cores"
)
WITHOUT_OPENCV = (
    "OpenCV is not installed, so augmentation.engine is reference (torchvision's transforms), which is slower; "
    "install opencv-python-headless for fused"
)


class _Settings(TypedDict):
    """What all kinds of batches take."""

    seed: int
    batch_size: int
    workers: int | None


@dataclass(frozen=True)
class Feed:
    """Where a training's batches come from."""

    batches: Batches  # shuffled and augmented
    waiting: Waiting  # counts how long the training waits for them
    side_px: int  # of their images
    make: Callable[[int], Batches]  # such batches of another side in px
    pixels: PhotoPixels | None = None  # the cache's; None where photos are decoded each time
    remarks: tuple[str, ...] = ()  # sentences that a person should read before the training
    room: Callable[[], int] = lambda: 0  # free bytes of a GPU
    _other: dict[int, Batches] = field(default_factory=dict)
    _reserved: list[int] = field(default_factory=list)  # bytes of a GPU that a step takes, once that is known

    @property
    def is_on_device(self) -> bool:
        """Whether a GPU makes the batches, and may hold the photos."""
        return isinstance(self.batches, DeviceBatches)

    def settle(self, reserved_bytes: int) -> None:
        """Copies the photos into a GPU's memory where they fit beside a step, which takes so many bytes."""
        self._reserved[:] = [reserved_bytes]
        self._make_resident(self.batches)

    def _make_resident(self, batches: Batches) -> None:
        if isinstance(batches, DeviceBatches) and self._reserved:
            batches.make_resident(int(SHARE_OF_DEVICE_MEMORY * max(0, self.room() - self._reserved[0])))

    def of_size(self, side_px: int) -> Batches:
        """Batches of images of another side, 0 for the same; keeps only the last ones, since a GPU may hold photos."""
        if side_px in (0, self.side_px):
            return self.batches
        if side_px not in self._other:
            self._other.clear()
            self._other[side_px] = self.make(side_px)
            self._make_resident(self._other[side_px])
        return self._other[side_px]

    def remarks_after(self) -> list[str]:
        """Sentences that a person should read after the training."""
        if not self.pixels or not self.pixels.damaged:
            return []
        damaged = counted(len(self.pixels.damaged), "damaged photo")
        return [f"the cache had {damaged}; decoded from the file instead. The next training caches them again"]


def can_fuse(device: torch.device) -> bool:
    """Whether fused augmentations can be computed: a GPU does it itself, a CPU needs OpenCV."""
    return device.type == "cuda" or fused.is_installed()


def make_feed(
    photos: Sequence[LabelledPhoto],
    policies: Mapping[str, Policy],
    preprocessing: Preprocessing,
    *,
    engine: str,
    cache_side_px: int,
    seed: int,
    batch_size: int,
    reading: AnyReading,
    device: torch.device,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
    cache: Cache | None = None,
    contents: Contents | None = None,
) -> Feed:
    """Batches by the engine that the recipe names; for `fused`, the cache is filled first.

    Args:
        photos: what to train on, in a stable order.
        policies: augmentations by name.
        engine: `reference` or `fused`.
        cache_side_px: bound on the shorter side of the pixels that `fused` starts from; 0: none, and no cache.
        reading: how files are read.
        device: where the training runs; a GPU augments by itself, and holds the photos once the feed is settled.
        workers: processes or threads that load photos; None: chosen by the machine. Results do not depend on it.
        advance: called with how many more photos the cache has.
        cache: None: the user's.
        contents: what was read before.

    Raises PhotosError if a photo cannot be read or has changed, UsageError for `fused` without OpenCV on a CPU.
    """
    settings, side = _Settings(seed=seed, batch_size=batch_size, workers=workers), preprocessing.image_size_px
    if engine == "reference":

        def decoded(side_px: int) -> Batches:
            sized = preprocessing.of_size(side_px)
            transforms = {name: reference(policy, sized) for name, policy in policies.items()}
            return TrainingBatches(photos, transforms, reading=reading, **settings)

        return Feed(decoded(side), Waiting(SLOW_TRANSFORMS), side, decoded)
    if not can_fuse(device):
        raise UsageError(NO_OPENCV)
    least = cache_side_px or ENLARGED * side
    pixels = (cache or Cache()).pixels_of(photos, cache_side_px, reading, advance, contents, least)

    def cached(side_px: int) -> Batches:
        sized = preprocessing.of_size(side_px)
        if device.type == "cuda":
            return DeviceBatches(photos, policies, pixels, sized, device=device, **settings)
        augmentations = {name: fused.fused(policy, sized) for name, policy in policies.items()}
        return FusedBatches(photos, augmentations, pixels, side_px=side_px, **settings)

    waiting, remarks = Waiting(_advice(photos, pixels)), tuple(_remarks(photos, pixels))
    return Feed(cached(side), waiting, side, cached, pixels, remarks, lambda: available_bytes(device) or 0)


def _uncached(photos: Sequence[LabelledPhoto], pixels: PhotoPixels) -> int:
    return sum(photo.content_hash not in pixels for photo in photos)


def _remarks(photos: Sequence[LabelledPhoto], pixels: PhotoPixels) -> list[str]:
    left, of = _uncached(photos, pixels), counted(len(photos), "photo")
    if not left or not pixels.side_px:
        return []
    why = pixels.problem or "they are too large"
    return [f"{left:,} of {of} not in the cache ({why}); they are decoded in each epoch, with the same result"]


def _advice(photos: Sequence[LabelledPhoto], pixels: PhotoPixels) -> str:
    if not pixels.side_px:
        return "photos are decoded in each epoch; set data.cache_side_px to null to cache them"
    if left := _uncached(photos, pixels):
        return (
            f"{left:,} photos are decoded in each epoch; make room for the cache (see fieldguide cache; {BOUND} "
            "limits it), or lower data.cache_side_px"
        )
    return (
        f"all photos are cached, so CPU ({cores()} cores) or disk is the bottleneck; lower data.cache_side_px, or add "
        "cores or memory"
    )
