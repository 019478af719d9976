"""Keeps this machine's folders out of what is saved: a command line and a text without absolute paths."""

import re
from collections.abc import Sequence
from pathlib import Path

DROPPED = ("--python", "--output")  # where the interpreter and the table lie is nobody's business
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"`:,|()]+/)+")


def shareable_command(command: Sequence[str]) -> list[str]:
    """A command line that another can type: PHOTOS for the photos' folder, the name alone for other absolute paths."""
    kept: list[str] = []
    words = iter(command)
    for word in words:
        name, equals, value = word.partition("=")
        if name in DROPPED:
            if not equals:
                next(words, "")
        elif name == "--photos":
            if not equals:
                next(words, "")
            kept += [name, "PHOTOS"]
        elif value.startswith("/"):
            kept.append(f"{name}={Path(value).name}")
        else:
            kept.append(Path(word).name if word.startswith("/") else word)
    return kept


def shareable_text(text: str) -> str:
    """A text whose absolute paths are cut down to the file's name."""
    return FOLDERS.sub("", text)
