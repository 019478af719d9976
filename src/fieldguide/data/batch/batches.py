"""Batches of photos: augmented and shuffled for training, in order and untouched for everything else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


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
