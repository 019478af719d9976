"""What a server counts, as Prometheus reads it. The only one that knows prometheus_client."""

from collections.abc import Callable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
TYPE = "text/plain; version=0.0.4; charset=utf-8"


@final
class Metrics:
    """Counters of one server, in no global registry."""

    def __init__(self, waiting: Callable[[], int], held_bytes: Callable[[], int]) -> None:
        """Begins at 0; photos that wait and bytes that are held are asked for when somebody looks."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fieldguide_requests", "Requests by path and status", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "fieldguide_request_seconds", "Seconds per request", ("path",), buckets=SECONDS, registry=self._registry
        )
        self._photos = Counter(
            "fieldguide_photos", "Photos by status: ok, unsure, failed, dropped", ("status",), registry=self._registry
        )
        self._batches = Histogram(
            "fieldguide_batch_photos", "Photos computed together", buckets=SIZES, registry=self._registry
        )
        queue = Gauge("fieldguide_queue_photos", "Photos accepted and not answered", registry=self._registry)
        queue.set_function(waiting)
        held = Gauge("fieldguide_upload_bytes", "Bytes of uploads in memory", registry=self._registry)
        held.set_function(held_bytes)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request; `path` is one of the server's own, or `other`."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def photo(self, status: str) -> None:
        """Counts a photo."""
        self._photos.labels(status).inc()

    def batch(self, photos: int) -> None:
        """Counts photos that were computed together."""
        self._batches.observe(photos)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
