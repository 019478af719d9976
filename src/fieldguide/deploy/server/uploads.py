"""The body of a request, read within bounds: one image, several files, or JSON with tensors."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from fieldguide.deploy.server.limits import Limits, OfRequest, Refused

MULTIPART, JSON = "multipart/form-data", "application/json"
HOW = "send one image as the body, or files as multipart/form-data: curl -F photo=@x.jpg"


class Upload(NamedTuple):
    """A file of a request; `name` is what the client calls it, and None where it does not."""

    name: str | None
    content: bytes


async def photos_of(request: Request, limits: Limits, held: OfRequest, most_photos: int) -> list[Upload]:
    """The photos of a request.

    Args:
        request: one image as its body, or multipart.
        limits: of bytes and seconds.
        held: counts its bytes.
        most_photos: more are refused.

    Raises:
        Refused: too large, too slow, or something else than photos.
        ClientDisconnect: the client has gone.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == JSON.encode():
        raise Refused(415, f"JSON is not a photo; {HOW}")
    if kind != MULTIPART.encode():
        content = await content_of(request, limits, held)
        if not content:
            raise Refused(400, f"the request has no body; {HOW}")
        return [Upload(None, content)]
    form = Form(options.get(b"boundary", b""), most_photos)
    await read(request, limits, held, form.add)
    return form.files()


async def content_of(request: Request, limits: Limits, held: OfRequest) -> bytes:
    """The body; raises as `photos_of`."""
    pieces: list[bytes] = []
    await read(request, limits, held, pieces.append)
    return b"".join(pieces)


async def read(request: Request, limits: Limits, held: OfRequest, take: Callable[[bytes], None]) -> None:
    """Gives the body to `take` as it comes; raises Refused before a piece too many is kept."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared[:20]) > limits.upload_bytes:
        raise _too_large(limits)
    loop, taken = asyncio.get_running_loop(), 0
    end = loop.time() + limits.upload_seconds
    try:
        async with asyncio.timeout(limits.pause_seconds) as patience:
            async for piece in request.stream():
                taken += len(piece)
                if taken > limits.upload_bytes:
                    raise _too_large(limits)
                held.take(len(piece))
                take(piece)
                patience.reschedule(min(loop.time() + limits.pause_seconds, end))
    except TimeoutError:
        raise Refused(408, "the upload is too slow") from None


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the request is over {limits.upload_bytes:,} bytes; send fewer photos at once")


@final
class Form:
    """multipart/form-data whose parts are files, kept in memory."""

    def __init__(self, boundary: bytes, most_files: int) -> None:
        """Begins; raises Refused if the boundary is missing or too long."""
        if not boundary:
            raise Refused(400, f"multipart/form-data without a boundary; {HOW}")
        self._most_files = most_files
        self._files: list[Upload] = []
        self._is_whole = False
        self._reset()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._reset,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Refused(400, f"multipart/form-data cannot be read ({error})") from None

    def add(self, piece: bytes) -> None:
        """A piece of the body; raises Refused if it is damaged or holds too many files."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Refused(400, f"multipart/form-data cannot be read ({error})") from None

    def files(self) -> list[Upload]:
        """All files, once the body has ended; raises Refused if there are none, or if it was cut off."""
        if not self._is_whole:
            raise Refused(400, "multipart/form-data is cut off: its last boundary is missing")
        if not self._files:
            raise Refused(400, f"there are no files in the request; {HOW}")
        return self._files

    def _reset(self) -> None:
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            field = options.get(b"name", b"").decode("utf-8", "replace")
            raise Refused(400, f"the field {field!r} is not a file; {HOW}")
        if len(self._files) >= self._most_files:
            raise Refused(413, f"over {self._most_files:,} files in one request; send fewer photos at once")
        name = options[b"filename"].decode("utf-8", "replace")
        self._files.append(Upload(name or None, bytes(self._content)))
        self._content = bytearray()

    def _end(self) -> None:
        self._is_whole = True
