"""Names in a table -> files that are there, also where folders, endings or the system differ."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence

from fieldguide.data.read.formats import has_image_ending

Key = Callable[[str], str]
DRIVE = re.compile(r"^(?:[A-Za-z]:|file://)")


def tidy(name: str) -> str:
    """A name with `/`, without drive, `./` and `//`; letters with accents as one character."""
    if "\\" in name:
        name = name.replace("\\", "/")
    if ":" in name:
        name = DRIVE.sub("", name)
    if "./" in name or "//" in name:
        pieces = [piece for place, piece in enumerate(name.split("/")) if piece != "." and (piece or place == 0)]
        name = "/".join(pieces)
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Names:
    """The files below a folder, found by the names that tables have for them.

    A name is that of a file if it is its whole path below the folder; else if one is the end of the other: a path
    without the folder's first steps, or an absolute one; else if that is so without the folders that all names begin
    with. Endings count if a name has that of an image, upper and lower case only where nothing else fits.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._whole = {tidy(file): place for place, file in enumerate(files)}
        self._ends_of: dict[tuple[bool, bool], dict[str, list[int]]] = {}

    def whole(self, name: str) -> int | None:
        """The place of the file whose whole path below the folder this is."""
        return self._whole.get(name)

    def find(self, name: str, before: str = "") -> list[int]:
        """Places of the files that a name may mean: none, one, or several if it is ambiguous.

        `before` are the folders that all tidy names of the table begin with, ended by `/`.
        """
        wanted = tidy(name).rstrip("/")
        if not wanted:
            return []
        if (place := self._whole.get(wanted)) is not None:
            return [place]
        for folded in (False, True):
            for bare in (False, True):
                if bare and has_image_ending(wanted):
                    continue
                found = self._ends(wanted, before, bare=bare, folded=folded)
                if found:
                    return found
        return []

    def _ends(self, wanted: str, before: str, *, bare: bool, folded: bool) -> list[int]:
        key = _key(bare, folded)
        index = self._index(bare, folded)
        name = wanted.casefold() if folded else wanted
        options = [name.lstrip("/")]
        start = before.casefold() if folded else before
        if start and name.startswith(start) and len(name) > len(start):
            options.append(name[len(start) :])
        for option in options:
            exact = [place for place in index.get(_last_two(option), ()) if key(self._files[place]) == option]
            if exact:
                return exact
            end = "/" + option
            inside = [place for place in index.get(_last_two(option), ()) if key(self._files[place]).endswith(end)]
            if inside:
                return inside
        for at in _slashes(options[0]):
            rest = options[0][at + 1 :]
            exact = [place for place in index.get(_last_two(rest), ()) if key(self._files[place]) == rest]
            if exact:
                return exact
        return []

    def _index(self, bare: bool, folded: bool) -> dict[str, list[int]]:
        """Files by their last name, and by their last two."""
        kind = (bare, folded)
        if kind not in self._ends_of:
            key, made = _key(bare, folded), defaultdict(list)
            for place, file in enumerate(self._files):
                text = key(file)
                made[text.rpartition("/")[2]].append(place)
                if "/" in text:
                    made[_last_two(text)].append(place)
            self._ends_of[kind] = dict(made)
        return self._ends_of[kind]


def _key(bare: bool, folded: bool) -> Key:
    def key(file: str) -> str:
        text = tidy(file)
        if bare and has_image_ending(text):
            text = text.rpartition(".")[0]
        return text.casefold() if folded else text

    return key


def _last_two(name: str) -> str:
    """The last two steps of a path, or the one that there is."""
    folder, _, last = name.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{last}" if folder else last


def _slashes(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "/"]


def shared_folder(names: Sequence[str]) -> str:
    """The folders that all tidy names begin with, ended by `/`; empty if there are none."""
    names = [tidy(name) for name in names if name]
    if not names:
        return ""
    low, high = min(names), max(names)
    size = next(
        (place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    return low[: low.rfind("/", 0, size) + 1]
