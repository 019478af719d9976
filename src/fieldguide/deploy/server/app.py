"""The paths of a server: photos in, JSON out."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from fieldguide.deploy.answers import Answering, Prediction, Status
from fieldguide.deploy.photos import Photo
from fieldguide.deploy.server import guard, kserve, metrics, page, uploads
from fieldguide.deploy.server.batching import Batching
from fieldguide.deploy.server.limits import Held, Limits, Refused, busy
from fieldguide.deploy.server.openapi import description

TOP = 5
GONE = 499  # a client that left before its answer; nobody sees it but the metrics


@dataclass(frozen=True)
class Service:
    """What a server serves.

    Attributes:
        predictor: whose engine is chosen already.
        name: the model's, in paths.
        version: fieldguide's.
        unsure_below: as for `predict`.
        token: that requests need; None: none.
        host_names: that the Host header may have, besides addresses.
        page_hosts: of other sites whose pages may send photos.
    """

    predictor: Answering
    name: str
    version: str
    unsure_below: float | None = None
    token: bytes | None = None
    host_names: Collection[str] = ("localhost",)
    page_hosts: Collection[str] = ()
    limits: Limits = field(default_factory=Limits)


class Json(Response):
    """Compact JSON, without NaN, which is none."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """See `Response`."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@final
class App:
    """An ASGI application: counts each request, asks who it is from, and adds the headers of every answer."""

    def __init__(self, service: Service, batching: Batching) -> None:
        """Joins what is served with what computes it."""
        self.service, self.batching = service, batching
        self.held = Held(service.limits.held_bytes)
        self.metrics = metrics.Metrics(lambda: batching.waiting, lambda: self.held.now)
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        began, path, status = time.perf_counter(), self._label(scope["path"]), GONE

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in guard.HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self._requests += 1
        try:
            await self._guarded(scope, receive, send_with_headers)
        finally:
            self._requests -= 1
            self.metrics.request(path, status, time.perf_counter() - began)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._demand(scope)
        except Refused as refused:
            await _refusal(refused)(scope, receive, send)
            return
        await self._routes(scope, receive, send)

    def _demand(self, scope: Scope) -> None:
        headers, service = Headers(scope=scope), self.service
        guard.demand_host(headers, service.host_names)
        if scope["method"] not in ("GET", "HEAD"):
            guard.demand_own_page(headers, service.page_hosts)
        if service.token is not None and scope["path"] not in guard.OPEN_PATHS:
            guard.demand_token(headers, service.token)
        if self._requests > service.limits.connections:
            raise busy("too many requests at once; try again")

    def _label(self, path: str) -> str:
        return path if path in self._paths else "other"

    @cached_property
    def _paths(self) -> dict[str, Route]:
        model = f"/v2/models/{self.service.name}"
        handlers = {
            "/": self._page, "/page.js": self._page, "/page.css": self._page, "/metrics": self._metrics,
            "/openapi.json": self._openapi, "/v2": self._about, "/v2/health/live": self._live,
            "/v2/health/ready": self._ready, model: self._model, f"{model}/ready": self._ready,
        }  # fmt: skip
        posts = {"/predict": self._predict, f"{model}/infer": self._infer}
        routes = {path: Route(path, handler) for path, handler in handlers.items()}
        return routes | {path: Route(path, handler, methods=["POST"]) for path, handler in posts.items()}

    @cached_property
    def _routes(self) -> Starlette:
        handlers: Any = {Refused: _refused, HTTPException: _no_such_path, ClientDisconnect: _gone, Exception: _bug}
        app = Starlette(routes=list(self._paths.values()), exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    async def _page(self, request: Request) -> Response:
        content, kind = page.parts()[request.url.path]
        return Response(content, media_type=kind)

    async def _live(self, request: Request) -> Response:
        return Json({"live": True})

    async def _ready(self, request: Request) -> Response:
        if self.batching.is_stopping:
            raise busy("the server is stopping")
        return Json({"ready": True})

    async def _about(self, request: Request) -> Response:
        service, own = self.service, {"models": [self.service.name]}
        return Json({"name": "fieldguide", "version": service.version, "extensions": kserve.EXTENSIONS} | own)

    async def _model(self, request: Request) -> Response:
        predictor = self.service.predictor
        return Json(kserve.metadata(self.service.name, predictor.classes, predictor.max_megapixels))

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": metrics.TYPE})

    async def _openapi(self, request: Request) -> Response:
        service = self.service
        return Json(description(service.name, service.version, has_token=service.token is not None))

    async def _predict(self, request: Request) -> Response:
        top = _top_of(request, len(self.service.predictor.classes))
        with self.held.of_request() as own:
            self.batching.demand_room()  # before a body is read in vain
            limits = self.service.limits
            files = await uploads.photos_of(request, limits, own, limits.photos)
            predictions = await self._answers(request, [each.content for each in files], top)
        answers = [_described(each.name, made) for each, made in zip(files, predictions, strict=True)]
        return Json({"model": self.service.name, "predictions": answers})

    async def _infer(self, request: Request) -> Response:
        service, classes = self.service, self.service.predictor.classes
        with self.held.of_request() as own:
            self.batching.demand_room()
            body = await uploads.content_of(request, service.limits, own)
            length = request.headers.get(kserve.JSON_LENGTH)
            asked, binary = kserve.parse(body, length, service.limits.json_bytes)
            photos = kserve.photos_of(asked, binary, service.limits.photos)
            del body, binary
            predictions = await self._answers(request, photos, len(classes))
        return Json(kserve.response(service.name, asked, classes, predictions))

    async def _answers(self, request: Request, photos: Sequence[Photo], top: int) -> list[Prediction]:
        """Waits for the answers; drops photos whose client has gone, and raises ClientDisconnect."""
        asked = self.batching.submit(photos, top)
        try:
            async with _watched(request) as gone:
                await asyncio.wait((asked.done, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asked.done.done():
                asked.drop()
                self._count(["dropped"] * len(photos))
        if asked.is_dropped:
            raise ClientDisconnect
        predictions = [each for each in asked.answers if each is not None]
        self._count([str(each.status) for each in predictions])
        return predictions

    def _count(self, statuses: Sequence[str]) -> None:
        for status in statuses:
            self.metrics.photo(status)


@contextlib.asynccontextmanager
async def _watched(request: Request) -> AsyncIterator["asyncio.Task[Message]"]:
    """A task that ends when the client leaves."""
    task = asyncio.ensure_future(request.receive())  # the body is read: what comes next is that it left
    try:
        yield task
    finally:
        task.cancel()


def _top_of(request: Request, most: int) -> int:
    text = request.query_params.get("top")
    if text is None:
        return min(TOP, most)
    if not text.isdecimal() or not 1 <= int(text[:9]) <= most:
        raise Refused(400, f"top: must be a whole number from 1 to {most:,}")
    return int(text)


def _described(name: str | None, prediction: Prediction) -> dict[str, Any]:
    """With six decimals, as in the CSV of `predict`."""
    about: dict[str, Any] = {"image": name, "status": str(prediction.status)}
    if prediction.status is Status.FAILED or prediction.confidence is None:
        return about | {"error": prediction.reason}
    top = [{"label": label, "confidence": round(value, 6)} for label, value in prediction.top]
    return about | {"label": prediction.label, "confidence": round(prediction.confidence, 6), "top": top}


def _refusal(refused: Refused) -> Response:
    return Json({"error": refused.reason}, refused.status, refused.headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _refusal(error)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


async def _bug(request: Request, error: Exception) -> Response:
    """The traceback goes to the person who started the server."""
    return Json({"error": "the server failed; its own messages say why"}, 500)


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = "there is no such path" if error.status_code == 404 else error.detail
    return Json({"error": f"{reason}; see /openapi.json"}, error.status_code, dict(error.headers or {}))
