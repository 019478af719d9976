"""How photos were read, counted while threads read them."""

import collections
from typing import NamedTuple

from PIL import Image

from fieldguide.data.read.decode import OUTSIDE, SMALLER, UNDECIDED


class Counted(NamedTuple):
    """How many photos so far were read in a way that a person should know."""

    smaller: int = 0  # large JPEGs that were decoded at reduced size
    clipped: int = 0  # with values outside the range that the training settled
    undecided: int = 0  # with more than 8 bits of a kind (integers, floats) that no training photo has


class PhotoCounter:
    """Counts photos by what their reader noted; may be told by several threads."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._smaller, self._clipped, self._undecided = (collections.deque[None]() for _ in range(3))

    def note(self, image: Image.Image) -> None:
        """Counts a photo that was decoded."""
        if SMALLER in image.info:
            self._smaller.append(None)
        if OUTSIDE in image.info:
            self._clipped.append(None)
        if UNDECIDED in image.info:
            self._undecided.append(None)

    def told(self) -> Counted:
        """The counts so far."""
        return Counted(len(self._smaller), len(self._clipped), len(self._undecided))
