"""A file that is no photo, with the reason."""

from fieldguide.errors import PhotosError


class UnreadableError(PhotosError):
    """A file that is no photo; the text is the end of a sentence that begins with the file's name.

    The kind is `unreadable`, `empty`, `truncated`, `not_an_image`, `no_decoder` or `bomb`.
    """

    def __init__(self, reason: str, kind: str = "unreadable") -> None:
        self.kind = kind
        super().__init__(reason)


_LOST = b"\0fieldguide: this photo is damaged in its archive\n"


def lost_in_archive(reason: str) -> bytes:
    """The content of a file in place of a photo that is damaged in its archive."""
    return _LOST + reason.encode("utf-8", "replace")


def demand_not_lost(content: bytes) -> None:
    """Raises UnreadableError for such a file."""
    if content.startswith(_LOST):
        reason = content.removeprefix(_LOST).decode("utf-8", "replace")
        raise UnreadableError(f"is damaged in its archive ({reason})")
