"""What libtiff would print to the terminal, kept and given as a reason."""

import ctypes
import functools
import logging
import threading
from typing import Any

from PIL import _imaging

MOST_BYTES = 300
_said = threading.local()


def begin() -> None:
    """Forgets what was said before; from now on libtiff's words of this thread are kept, where the system allows it."""
    _listen()
    _said.words = []


def said() -> str:
    """The first thing that libtiff complained of in this thread since `begin`; empty if nothing."""
    words: list[str] = getattr(_said, "words", [])
    return words[0] if words else ""


def forget() -> None:
    """What was said belongs to a file that is done."""
    _said.words = []


@functools.cache
def _listen() -> tuple[Any, ...]:
    """Sets libtiff's handlers; gives them back, since they must outlive every call.

    Pillow's wheels for Linux and macOS bring libtiff as a library, which is asked by its name. Where it is built in
    (Windows), its words go to the terminal as before.
    """
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL + 1)  # it raises as well
    try:
        library = ctypes.CDLL(_imaging.__file__)
        set_error, set_warning = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
        written = ctypes.CDLL(None).vsnprintf
    except (AttributeError, OSError, TypeError):
        return ()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)
    written.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]

    def keep(module: bytes | None, form: int, values: int) -> None:
        buffer = ctypes.create_string_buffer(MOST_BYTES)
        written(buffer, MOST_BYTES, form, values)
        words: list[str] | None = getattr(_said, "words", None)
        if words is not None and len(words) < 3:
            words.append(buffer.value.decode("utf-8", "replace"))

    handlers = kind(keep), kind(lambda *_: None)
    for setter, handler in zip((set_error, set_warning), handlers, strict=True):
        setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        setter(ctypes.cast(handler, ctypes.c_void_p))
    return handlers
