"""Every photo looked at once; prints of many are kept in a file, as those of a million would take 11 GB of memory."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fieldguide.data.look.facts import COLOUR_SIDE_PX, GRAY_SIDE_PX, Facts, Pixels, Print, facts_of
from fieldguide.data.look.scan import Photo
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.prefetch import prefetched
from fieldguide.data.read.reading import AnyReading

FEW = 20_000  # photos whose prints stay in memory: 230 MB
GRAY_BYTES, COLOUR_BYTES = GRAY_SIDE_PX**2, 2 * COLOUR_SIDE_PX**2


class PrintFile:
    """Room for so many prints; the system keeps in memory what is used, and writes the rest to the disk."""

    def __init__(self, count: int) -> None:
        """Takes the room on the disk at once; where there is none, prints stay in memory."""
        self._rows: Pixels | None = None
        if count <= FEW or not hasattr(os, "posix_fallocate"):
            return
        with tempfile.TemporaryFile() as file:
            size = count * (GRAY_BYTES + COLOUR_BYTES)
            try:
                os.posix_fallocate(file.fileno(), 0, size)  # a hole that cannot be filled would end the process
            except OSError:
                return
            self._rows = np.asarray(np.memmap(file, np.uint8, "r+", shape=(count, GRAY_BYTES + COLOUR_BYTES)))

    def keep(self, place: int, facts: Facts) -> Facts:
        """The same facts, with the print's pixels in the file."""
        made = facts.print
        if self._rows is None or made is None:
            return facts
        row = self._rows[place]
        row[:GRAY_BYTES], row[GRAY_BYTES:] = made.gray.ravel(), made.colour.ravel()
        gray, colour = row[:GRAY_BYTES].reshape(made.gray.shape), row[GRAY_BYTES:].reshape(made.colour.shape)
        return replace(facts, print=Print(gray, colour, made.phash))


def look_at(
    photos: Sequence[Photo],
    reading: AnyReading,
    advance: Callable[[int], None],
    contents: Contents | None = None,
    hurries: Callable[[], bool] = lambda: False,
) -> list[Facts]:
    """Reads, checksums and decodes every photo once, but no pixels of a larger one; in order, on all cores.

    `contents` keeps photos of training and validation for those who decode them next. While it `hurries`, photos get no
    prints.
    """

    def facts_at(photo: Photo) -> Facts:
        return facts_of(photo, reading, contents if photo.part != "test" else None, prints=not hurries())

    found, prints = [], PrintFile(len(photos))
    for place, facts in enumerate(prefetched(photos, facts_at)):
        found.append(prints.keep(place, facts))
        advance(1)
    return found
