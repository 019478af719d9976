"""A model's file in its own runtime: what is asked of one."""

import abc
import contextlib
import importlib.util
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.errors import UsageError

KEY = "fieldguide"  # of the metadata in a file: all of it as JSON
INPUT, OUTPUT = "photos", "probabilities"
PIXELS = "pixels_"  # what a member's resize gives, with its number: (batch, 3, side, side) float of 0 to 255


class Runtime(abc.ABC):
    """A loaded file of an export.

    Attributes:
        about: the metadata in the file.
    """

    about: Mapping[str, Any]

    @abc.abstractmethod
    def compute(self, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(batch, height, width, 3) uint8 RGB to (batch, num_classes) probabilities."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of a converter about its own parts; what it does is held against the trained model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def as_text(about: Mapping[str, Any]) -> str:
    """Metadata for a file; plain ASCII, since not every runtime reads more."""
    return json.dumps(about, sort_keys=True)


def from_text(text: str | None, where: str) -> dict[str, Any]:
    """Metadata from a file; raises UsageError if it has none."""
    try:
        found = json.loads(text or "")
        if not isinstance(found, dict) or not isinstance(found["classes"], list):
            raise ValueError("no classes")
    except (KeyError, ValueError) as error:
        raise UsageError(f"{where}: holds no metadata of fieldguide ({error})") from None
    return found


def problem_without(modules: tuple[str, ...], extra: str, what: str) -> str | None:
    """The sentence about missing packages; None if all are installed."""
    if all(importlib.util.find_spec(module) is not None for module in modules):
        return None
    return f"{what} needs packages that are not installed: pip install 'fieldguide[{extra}]'"
