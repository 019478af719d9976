"""Batches of photos: augmented and shuffled for training, in order and untouched for everything else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from fieldguide.data.batch.order import SHUFFLED, WHOLE, Order, Share


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo to train on."""

    path: Path
    file: str  # its name in the split; its random numbers depend on it
    label: int  # index of its class
    content_hash: str = ""  # SHA-256 of its content, by which its pixels are cached


@dataclass(frozen=True)
class Batch:
    """Photos for one step."""

    images: torch.Tensor  # (batch, 3, height, width) uint8
    labels: torch.Tensor  # (batch,) int64
    files: tuple[str, ...]  # names of all photos of the step, for messages; other processes may have some of them


class Batches(Protocol):
    """Batches to train on; the same for the same (seed, epoch), with any number of workers."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""

    def epoch(
        self, augmentation: str, epoch: int, first_step: int = 0, *, order: Order = SHUFFLED, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """The batches of one epoch, counted over the whole run, by the augmentation of that name.

        The first `first_step` batches are left out, and none of their photos is read; see `epoch_order` for `order`. Of
        each batch only what `share` takes is made, with the names of all.
        Raises PhotosError if a photo cannot be read any more.
        """
