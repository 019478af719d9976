"""Folders and files that are passed over: hidden ones, and what systems leave behind. Looks at names only."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fieldguide.data.look.findings import Remark, Topic, some
from fieldguide.errors import counted
from fieldguide.storage import printable

SYSTEM_FOLDERS = {
    name.casefold(): by
    for by, names in {
        "macOS": ("__MACOSX", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", ".TemporaryItems"),
        "Synology": ("@eaDir", "#recycle", "#snapshot"),
        "QNAP": ("@Recycle", ".@__thumb"),
        "Windows": ("$RECYCLE.BIN", "System Volume Information"),
        "Linux": ("lost+found", ".Trash-1000"),
    }.items()
    for name in names
}
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".directory")
APPLE_DOUBLE = "._"  # what begins the name of a file that macOS puts beside one on a foreign disk


class Hidden(NamedTuple):
    """A folder with photos whose name begins with a dot."""

    folder: Path
    images: int | None  # how many; None if it cannot be read


@dataclass
class PassedOver:
    """What was passed over below a folder: hidden folders with photos; what systems left, by name."""

    hidden: list[Hidden] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)  # how often something of this name lies there
    photos: Counter[str] = field(default_factory=Counter)  # how many photos are in folders of this name

    def add(self, other: "PassedOver") -> None:
        """Takes what another found."""
        self.hidden += other.hidden
        self.places += other.places
        self.photos += other.photos

    def add_file(self, name: str) -> bool:
        """Whether a file is one that a system left behind; counted if so."""
        if is_system_file(name):
            self.places["._*" if name.startswith(APPLE_DOUBLE) else name] += 1
            return True
        return False

    @property
    def images(self) -> int:
        """How many photos are in hidden folders."""
        return sum(one.images or 0 for one in self.hidden)

    def remarks(self, root: Path) -> list[Remark]:
        """What a person should know about it."""
        found = []
        if self.hidden:
            told = ["cannot be read" if one.images is None else counted(one.images, "photo") for one in self.hidden]
            names = [printable(one.folder.relative_to(root).as_posix()) for one in self.hidden]
            named = [f"{name}/ ({count})" for name, count in zip(names, told, strict=True)]
            words = f"ignored, because their names begin with a dot: {some(named)}; rename those that you want to use"
            found.append(Remark(Topic.LAYOUT, words, tuple(named)))
        if self.places:
            left = [_left(printable(name), count, self.photos[name]) for name, count in sorted(self.places.items())]
            words = f"ignored, because systems leave these behind: {some(left, 10)}"
            found.append(Remark(Topic.LAYOUT, words, tuple(left)))
        return found


def _left(name: str, places: int, photos: int) -> str:
    inside = f" with {counted(photos, 'photo')}" if photos else ""
    is_folder = name.casefold() in SYSTEM_FOLDERS
    what = counted(places, "folder") if is_folder else counted(places, "file")
    return f"{name}{'/' if is_folder else ''} ({what}{inside})"


def hidden(name: str) -> bool:
    """Whether it begins with a dot."""
    return name.startswith(".")


def is_system_file(name: str) -> bool:
    """Whether a file of this name is a system's own."""
    return name.startswith(APPLE_DOUBLE) or name.casefold() in SYSTEM_FILES


def is_of_system(name: str) -> bool:
    """Whether a folder of this name is a system's own."""
    return name.casefold() in SYSTEM_FOLDERS


def is_passed_over(name: str) -> bool:
    """Whether a folder of this name is not looked into."""
    return hidden(name) or is_of_system(name)
