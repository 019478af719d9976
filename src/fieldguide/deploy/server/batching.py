"""Photos of many requests, decoded by threads and computed together by one."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from fieldguide.data.read.decode import UnreadableError
from fieldguide.deploy.answers import Answering, Prediction, Status
from fieldguide.deploy.photos import Photo
from fieldguide.deploy.server.limits import Limits, busy
from fieldguide.errors import counted
from fieldguide.world import cores

AHEAD_BATCHES = 2  # decoded and not computed yet
FILL_SECONDS = 0.03  # that a decoded photo waits for others to be computed with
SMOOTHED = 0.2  # the share of the newest batch in the photos per second


@final
class Asked:
    """The photos of one request; `answers` are whole when `done` is."""

    def __init__(self, photos: Sequence[Photo], top: int, done: "asyncio.Future[None]") -> None:
        self.photos: list[Photo | None] = list(photos)
        self.answers: list[Prediction | None] = [None] * len(photos)
        self.top, self.done = top, done
        self.left = len(photos)
        self.is_dropped = False

    def drop(self) -> None:
        """Nobody waits for the answers any more."""
        self.is_dropped = True
        self.photos = [None] * len(self.photos)


Place = tuple[Asked, int]
Answer = tuple[Asked, int, Prediction | None]  # None: dropped


@final
class Batching:
    """Decodes photos on all cores as soon as they are accepted, and computes on one thread whatever is decoded.

    So a single photo waits for no others, and with many clients batches fill by themselves. `submit` and `drop` are for
    the event loop's thread.

    Attributes:
        waiting: photos accepted and not answered.
        photos_per_second: of the last batches; 0: none yet.
    """

    def __init__(
        self,
        predictor: Answering,
        limits: Limits,
        unsure_below: float | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
        computed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepares.

        Args:
            predictor: whose engine is chosen already.
            limits: of the photos that wait.
            unsure_below: as for `Answering.predict`.
            tell: gets sentences for the person who started the server.
            computed: gets the size of each batch, on another thread.
        """
        self.waiting = 0
        self.photos_per_second = 0.0
        self.predictor = predictor
        self._limits, self._unsure_below = limits, unsure_below
        self._tell, self._computed = tell, computed
        self._batch_size = predictor.engine_batch_size
        self._is_stopping = False
        self._undecoded, self._counting = 0, threading.Lock()
        self._in_hand: Sequence[tuple[Asked, int, Any]] = ()  # decoded, computed now and not answered
        self._ahead = threading.Semaphore(AHEAD_BATCHES * self._batch_size)
        self._ready: queue.SimpleQueue[tuple[Asked, int, Any] | None] = queue.SimpleQueue()
        self._remarks: set[str] = set(predictor.remarks)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Its threads, inside an event loop; what was accepted must be answered before the end."""
        self._loop = asyncio.get_running_loop()
        self._decoding = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        computing = threading.Thread(target=self._keep_computing, name="compute", daemon=True)
        computing.start()
        try:
            yield
        finally:
            self._is_stopping = True
            self._decoding.shutdown(cancel_futures=True)
            self._ready.put(None)
            computing.join()

    def stop_accepting(self) -> None:
        """From now on, new photos are refused."""
        self._is_stopping = True

    @property
    def is_stopping(self) -> bool:
        """Whether new photos are refused."""
        return self._is_stopping

    def demand_room(self, photos: int = 1) -> None:
        """Raises Refused if so many photos would be too many, or the server stops."""
        if self._is_stopping:
            raise busy("the server is stopping")
        if photos > self._limits.photos:
            raise busy(f"{counted(photos, 'photo')} in one request; this server takes {self._limits.photos:,} at once")
        if self.waiting + photos > self._limits.photos:
            seconds = self.waiting / self.photos_per_second if self.photos_per_second else 1
            raise busy(f"{counted(self.waiting, 'photo')} are waiting; try again", min(seconds, 60))

    def submit(self, photos: Sequence[Photo], top: int) -> Asked:
        """Accepts photos of one request, each of which is then answered; raises Refused."""
        self.demand_room(len(photos))
        asked = Asked(photos, top, self._loop.create_future())
        self.waiting += len(photos)
        with self._counting:
            self._undecoded += len(photos)
        for place in range(len(photos)):
            self._decoding.submit(self._decode, asked, place)
        return asked

    def _decode(self, asked: Asked, place: int) -> None:
        """On a thread of the pool."""
        try:
            self._decode_or_answer(asked, place)
        finally:
            with self._counting:
                self._undecoded -= 1

    def _decode_or_answer(self, asked: Asked, place: int) -> None:
        photo = asked.photos[place]
        if asked.is_dropped or photo is None:
            self._answer([(asked, place, None)])
            return
        self._ahead.acquire()  # photos are taken in their order, so that the ones before will be computed
        try:
            loaded = self.predictor.load(photo)
        except UnreadableError as error:
            reason = str(error)
        except MemoryError:
            reason = "needs more memory than is available"
        except BaseException as error:  # whatever it is, even an exit: this photo fails, the server goes on
            reason = f"cannot be decoded ({type(error).__name__})"
            self._tell(f"a photo cannot be decoded: {type(error).__name__}: {error}")
        else:
            asked.photos[place] = None  # its bytes are needed no more
            self._ready.put((asked, place, loaded))
            return
        self._ahead.release()
        self._answer([(asked, place, failed(reason))])

    def _keep_computing(self) -> None:
        """The computing thread: what would end it fails its photos, and it begins again."""
        while True:
            try:
                self._compute()
                return
            except BaseException as error:  # an exit inside of a runtime, for example
                self._tell(f"the computing thread ended ({type(error).__name__}: {error}) and begins again")
                batch, self._in_hand = self._in_hand, ()
                if batch:
                    self._ahead.release(len(batch))
                reason = f"the model failed ({type(error).__name__})"
                self._answer([(asked, place, failed(reason)) for asked, place, _ in batch])

    def _compute(self) -> None:
        """Computes whatever is decoded, until the end."""
        while (first := self._ready.get()) is not None:
            batch, end = [first], time.monotonic() + FILL_SECONDS
            with contextlib.suppress(queue.Empty):
                while len(batch) < self._batch_size:
                    # where more photos are being decoded, they come soon, and a fuller batch takes less per photo
                    patience = end - time.monotonic() if self._undecoded else 0
                    more = self._ready.get(block=patience > 0, timeout=max(patience, 0))
                    if more is None:
                        self._ready.put(None)
                        break
                    batch.append(more)
            self._compute_batch(batch)

    def _compute_batch(self, batch: Sequence[tuple[Asked, int, Any]]) -> None:
        self._in_hand = batch
        wanted = [each for each in batch if not each[0].is_dropped]
        answers: list[Answer] = [(asked, place, None) for asked, place, _ in batch if asked.is_dropped]
        began = time.perf_counter()
        try:
            rows = list(self.predictor.answered([loaded for _, _, loaded in wanted])) if wanted else []
            for (asked, place, _), row in zip(wanted, rows, strict=True):
                found = self.predictor.predictions([(None, row, "")], top=asked.top, unsure_below=self._unsure_below)
                answers.append((asked, place, next(iter(found))))
        except Exception as error:  # whatever it is, these photos fail and the server goes on
            reason = "the model needs more memory than is available"
            if not isinstance(error, MemoryError):
                reason = f"the model failed ({type(error).__name__})"
                self._tell(f"the model failed: {type(error).__name__}: {error}")
            answers = [(asked, place, failed(reason)) for asked, place, _ in batch]
        self._note(len(wanted), time.perf_counter() - began)
        self._in_hand = ()
        self._ahead.release(len(batch))
        self._answer(answers)

    def _note(self, photos: int, seconds: float) -> None:
        if photos:
            speed = photos / max(seconds, 1e-6)
            before = self.photos_per_second
            self.photos_per_second = SMOOTHED * speed + (1 - SMOOTHED) * before if before else speed
            self._computed(photos)
        for remark in self.predictor.remarks:
            if remark not in self._remarks:
                self._remarks.add(remark)
                self._tell(remark)

    def _answer(self, answers: Sequence[Answer]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was ended by force
            self._loop.call_soon_threadsafe(self._deliver, answers)

    def _deliver(self, answers: Sequence[Answer]) -> None:
        """On the event loop's thread."""
        self.waiting -= len(answers)
        for asked, place, prediction in answers:
            asked.answers[place] = prediction
            asked.photos[place] = None
            asked.left -= 1
            if not asked.left and not asked.done.done():
                asked.done.set_result(None)


def failed(reason: str) -> Prediction:
    """The prediction for a photo that cannot be read."""
    return Prediction(None, "", None, Status.FAILED, (), reason)
