"""How much a server takes at once, and what a request gets that is refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        photos: accepted and not answered yet, of all requests together.
        upload_bytes: of one request.
        json_bytes: of the JSON in a request, which takes many times its size once it is read.
        connections: open at once.
        head_bytes: of a request up to its body.
        head_seconds: to send a request up to its body; also to take a photo's answer.
        pause_seconds: between two pieces of a body.
        upload_seconds: for a whole body.
        linger_seconds: to send the rest of a body that was refused, so that its sender reads why.
    """

    photos: int = 256
    upload_bytes: int = 64 * MEGABYTE
    json_bytes: int = 16 * MEGABYTE
    connections: int = 512
    head_bytes: int = 65_536
    head_seconds: float = 10
    pause_seconds: float = 10
    upload_seconds: float = 120
    linger_seconds: float = 2

    @property
    def held_bytes(self) -> int:
        """Of the uploads in memory, of all requests together."""
        return 4 * self.upload_bytes


@final
class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        reason: for the client, as a sentence.
        headers: more of the answer's.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def busy(reason: str, seconds: float = 1) -> Refused:
    """503 that says when to try again."""
    return Refused(503, reason, {"Retry-After": str(max(1, round(seconds)))})


@dataclass
class Held:
    """Bytes of uploads in memory. Only the event loop's thread uses it."""

    most: int
    now: int = 0

    @contextmanager
    def of_request(self) -> Iterator["OfRequest"]:
        """The bytes of one request, given back when it ends."""
        own = OfRequest(self)
        try:
            yield own
        finally:
            self.now -= own.bytes


@dataclass
class OfRequest:
    """The bytes that one request holds."""

    held: Held
    bytes: int = 0

    def take(self, count: int) -> None:
        """Counts more bytes; raises Refused where all requests together hold too many."""
        if self.held.now + count > self.held.most:
            raise busy("the server holds as many uploads as it can; try again")
        self.held.now += count
        self.bytes += count
