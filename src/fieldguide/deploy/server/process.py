"""A server's own thread and event loop, from a bound socket to the last answer."""

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, final

import uvicorn

from fieldguide.deploy.server.app import App, Service
from fieldguide.deploy.server.batching import Batching
from fieldguide.deploy.server.connection import BoundedConnection

STOPPING_SECONDS = 5  # for answers that are on their way
LOOK_SECONDS = 0.05
BACKLOG = 512


@final
class Running:
    """A server that listens, on a thread of its own.

    Attributes:
        app: the application.
        port: it listens on.
    """

    def __init__(self, service: Service, bound: socket.socket, tell: Callable[[str], None]) -> None:
        """Starts; returns when it listens.

        Args:
            service: the model, with what requests need and may take.
            bound: a socket with its address.
            tell: gets sentences for the person who started it.
        """
        self.port: int = bound.getsockname()[1]
        self._batching = Batching(
            service.predictor,
            service.limits,
            service.unsure_below,
            tell=tell,
            computed=lambda n: self.app.metrics.batch(n),
        )
        self.app = App(service, self._batching)
        connection: Any = functools.partial(BoundedConnection, limits=service.limits)
        config = uvicorn.Config(
            self.app, http=connection, ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG,
            timeout_graceful_shutdown=STOPPING_SECONDS,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(bound)), name="server", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    async def _serve(self, bound: socket.socket) -> None:
        with self._batching.running():
            await self._server.serve([bound])

    @property
    def is_alive(self) -> bool:
        """Whether it listens or still answers."""
        return self._thread.is_alive()

    def stop(self, is_urgent: Callable[[], bool] = lambda: False) -> int:
        """Answers what was accepted, refuses new photos, and ends.

        Args:
            is_urgent: whether to leave the rest unanswered.

        Returns:
            How many photos were left unanswered.
        """
        self._batching.stop_accepting()
        while self._batching.waiting and self.is_alive and not is_urgent():
            time.sleep(LOOK_SECONDS)
        left = self._batching.waiting
        self._server.force_exit = bool(left)
        self._server.should_exit = True
        while self.is_alive and not is_urgent():
            self._thread.join(LOOK_SECONDS)
        return left
