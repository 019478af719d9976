"""A connection of uvicorn's that waits for no client longer than the limits allow."""

import asyncio
from typing import Any, final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldguide.deploy.server.limits import Limits

LOOK_SECONDS = 0.5


@final
class BoundedConnection(H11Protocol):
    """Cut if a client takes too long to send a request's head, to take an answer, or to end a refused body.

    uvicorn bounds only the time between two requests. What happens while a body is read is in `uploads`.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        """See uvicorn."""
        super().__init__(*args, **kwargs)
        self._limits = limits

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

    def send_400_response(self, msg: str) -> None:
        """For bytes that are no HTTP; where an answer has begun already, the connection is cut."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

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
        if self.cycle is None or self.cycle.response_complete:
            return "rest" if self.conn.their_state is h11.SEND_BODY else "head"
        return ""
