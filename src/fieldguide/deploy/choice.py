"""How fast each engine is for a network on this machine: measured once, kept in the user's cache folder."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fieldguide import world
from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.storage import cache_folder, digest, read_json, write_json

KIND = "engines"


@dataclass(frozen=True)
class Speed:
    """How fast an engine is once it is ready, and the seconds to convert, compile and warm up."""

    images_per_second: float
    ready_seconds: float

    def seconds(self, photos: int, *, is_ready: bool = False) -> float:
        """How long this many photos would take."""
        return photos / self.images_per_second + (0 if is_ready else self.ready_seconds)


@dataclass
class Speeds:
    """The measured speeds for one network on one machine; the file may be deleted at any time.

    `key` is what they depend on, as plain data; without a `folder` they are kept nowhere.
    """

    key: Mapping[str, Any]
    folder: Path | None
    of: dict[str, Speed] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file."""
        return (
            None
            if self.folder is None
            else self.folder / f"{digest(json.dumps(dict(self.key), sort_keys=True).encode())[:32]}.json"
        )

    def recall(self) -> None:
        """Reads the file; one that is missing, damaged or about something else is ignored."""
        if self.path is None:
            return
        with contextlib.suppress(UsageError, KeyError, TypeError, ValueError, AttributeError):
            data = read_json(self.path)
            if data["key"] == dict(self.key):
                self.of = {str(name): _speed(**kept) for name, kept in data["engines"].items()} | self.of

    def keep(self) -> None:
        """Writes the file; if that fails, the speeds are measured again next time."""
        engines = {
            name: {"images_per_second": speed.images_per_second, "ready_seconds": speed.ready_seconds}
            for name, speed in sorted(self.of.items())
        }
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {"key": dict(self.key), "engines": engines})


def _speed(images_per_second: float, ready_seconds: float) -> Speed:
    if not (0 < images_per_second < math.inf and 0 <= ready_seconds < math.inf):
        raise ValueError("no speed")
    return Speed(float(images_per_second), float(ready_seconds))


def key(
    architecture: Architecture, image_size_px: int, batch_size: int, device: torch.device, *, is_mirrored: bool = False
) -> dict[str, Any]:
    """What an engine's speed depends on: machine, versions, network, sizes, mirror images. Not the weights' values."""
    network = {"backbone": architecture.backbone, "head": architecture.head, "classes": architecture.num_classes}
    network |= {"features": architecture.features} if architecture.features != "last" else {}
    sizes = {"image_size_px": image_size_px, "batch": batch_size} | ({"mirrored": True} if is_mirrored else {})
    return {"machine": world.describe_machine(device), **network, **sizes}


@dataclass(frozen=True)
class Kept:
    """All kept measurements.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> "Kept":
        """In the user's cache folder."""
        return cls(cache_folder(KIND))

    def files(self) -> list[Path]:
        """One file per network and size."""
        return sorted(self.folder.glob("*.json"))

    def clear(self) -> None:
        """Deletes them, so that the next `predict` measures again.

        Raises:
            UsageError: the folder cannot be written.
        """
        try:
            for path in self.files():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be cleared ({error.strerror or error})") from None
