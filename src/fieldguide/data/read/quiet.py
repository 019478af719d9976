"""Pillow silenced while any thread decodes, and locks that a forked process does not inherit held."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator

from PIL import Image


class OneAtATime:
    """A lock of this process; one that a worker inherited in a moment when it was held would never be free again."""

    def __init__(self) -> None:
        self._of_process = (os.getpid(), threading.RLock())

    def __call__(self) -> contextlib.AbstractContextManager[bool]:
        """The lock of the process that asks."""
        if self._of_process[0] != os.getpid():
            self._of_process = (os.getpid(), threading.RLock())
        return self._of_process[1]


class QuietCodec:
    """Silences Pillow's remarks and its bound on pixels while any thread decodes.

    Both are one for the whole process, so the first thread in saves them and the last one out restores them.
    """

    def __init__(self) -> None:
        self._lock = OneAtATime()
        self._inside = 0
        self._before = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Silent for as long as it is entered."""
        with self._lock():
            self._inside += 1
            if self._inside == 1:
                self._before.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")  # odd metadata; what matters raises
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None  # `max_megapixels` is checked before pixels are decoded
        try:
            yield
        finally:
            with self._lock():
                self._inside -= 1
                if self._inside == 0:
                    self._before.close()
