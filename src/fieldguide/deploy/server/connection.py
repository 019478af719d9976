"""A connection of uvicorn's that waits for no client longer than the limits allow."""

import asyncio
from typing import Any, final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fieldguide.deploy.server.limits import Limits

LOOK_SECONDS = 0.5


@final
class BoundedConnection(HttpToolsProtocol):
    """Cut if a client takes too long to send a request's head, to take an answer, or to end a refused body.

    uvicorn bounds only the time between two requests, and httptools takes a head of any size. What happens while a
    body is read is in `uploads`.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        """See uvicorn."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._kept_bytes = 0  # by the parser, since a request, its body or a piece of it began
        self._is_body_due, self._fault = False, ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._state, self._since = "", self.loop.time()
        self._next_look = self.loop.call_later(LOOK_SECONDS, self._look)
        if len(self.connections) > 2 * self._limits.connections:  # up to that many get a 503
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; a head or a trailer that goes on for too long is refused."""
        self._unset_keepalive_if_required()
        self._kept_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            self._decline(data[offered.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("This is no HTTP request.")
        if self._kept_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def _decline(self, rest: bytes) -> None:
        """Reads a request that offers another protocol as one that does not (RFC 9110, section 7.8).

        httptools would leave out its body. Java's client offers HTTP/2 so.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("This is no proxy.")
            return
        first = b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())
        headers = (b"%s: %s" % each for each in self.headers if each[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([first, *headers, b"", rest]))

    def on_message_begin(self) -> None:
        """See httptools."""
        self._kept_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self.parser.should_upgrade():
            return  # see `_decline`
        self._kept_bytes, self._is_body_due = 0, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self.parser.should_upgrade():
            return
        self._is_body_due = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if self._fault and not self._is_answering():
            super().send_400_response(self._fault)

    def send_400_response(self, msg: str) -> None:
        """For bytes that are no HTTP: behind the answers that are due, and never inside of one."""
        if self._is_answering() and not self._is_body_due:
            self._fault = msg
        elif self._is_answering() and self.cycle.response_started:
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _look(self) -> None:
        now, state = self.loop.time(), self._waits_for()
        if state != self._state:
            self._state, self._since = state, now
        patience = self._limits.linger_seconds if state == "rest" else self._limits.head_seconds
        if state and now - self._since > patience:
            self.transport.abort()
            return
        self._next_look = self.loop.call_later(LOOK_SECONDS, self._look)

    def _waits_for(self) -> str:
        """What the client owes; empty: nothing."""
        if self.transport.is_closing() or self.flow.write_paused:
            return "reading"
        if self._is_answering():
            return ""
        return "rest" if self._is_body_due else "head"

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete
