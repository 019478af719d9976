"""A file that is no photo, with the reason."""

from fieldguide.errors import PhotosError


class UnreadableError(PhotosError):
    """A file that is no photo; the text is the end of a sentence that begins with the file's name.

    The kind is `unreadable`, `empty`, `truncated`, `not_an_image`, `no_decoder` or `bomb`.
    """

    def __init__(self, reason: str, kind: str = "unreadable") -> None:
        self.kind = kind
        super().__init__(reason)
