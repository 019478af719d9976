"""Chooses an engine for the machine and the work, checks it against the plain one, and drops it if it fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from fieldguide.deploy.agreement import filled, relative_difference
from fieldguide.deploy.choice import Speed, Speeds
from fieldguide.deploy.compiled import compiled, problem_with_compiling
from fieldguide.deploy.engines import Engine, Folded, Logits, Mirrored, Plain
from fieldguide.deploy.forked import is_forked
from fieldguide.deploy.names import AUTO, INT8, PLAIN
from fieldguide.deploy.openvino_engine import Int8File, int8, openvino, problem_with_openvino
from fieldguide.errors import UsageError, counted
from fieldguide.model.classifier import Classifier
from fieldguide.world import fastest_precision

TOLERANCE = 0.05  # of the range of a photo's plain logits
INT8_TOLERANCE = 0.2  # its proof shows its accuracy; this finds a machine that computes it wrongly
TIMED_CALLS = 2
FEW = 9  # a piece of 8 and one of 1


@dataclass(frozen=True)
class Offer:
    """An engine that may be chosen.

    Attributes:
        problem: why it cannot run on a device, as a sentence; None if it can.
        make: from (classifier, device, batch size, image size in px).
        worth_seconds: only tried if at least this much work is left, since trying takes time.
        tolerance: how far its logits may be from the plain ones.
        is_mirrored: whether it computes mirror images by itself.
    """

    problem: Callable[[torch.device], str | None]
    make: Callable[[Classifier, torch.device, int, int], Engine]
    worth_seconds: float
    tolerance: float = TOLERANCE
    is_mirrored: bool = False


OFFERS = {
    "openvino": Offer(problem_with_openvino, openvino, 8),
    "folded": Offer(lambda _: None, Folded, 8),
    "compiled": Offer(problem_with_compiling, compiled, 120),
}
NAMES = (AUTO, PLAIN, *OFFERS)


def demand_engine(name: str, device: torch.device, int8_file: Int8File | None = None) -> None:
    """Checks an engine's name; `int8` is one for a run that holds a proven export in int8.

    Raises:
        UsageError: no such engine, or it cannot run here; the message says what to do.
    """
    if name == INT8 and int8_file is None:
        raise UsageError(
            "--engine int8: the run holds no export in int8 that was proven for its weights; make one: fieldguide "
            "export RUN -o RUN/int8 --format openvino --int8"
        )
    if name not in (*NAMES, INT8):
        raise UsageError(f"--engine {name}: must be one of {', '.join(NAMES)}")
    problem = (
        problem_with_openvino(device) if name == INT8 else OFFERS[name].problem(device) if name in OFFERS else None
    )
    if problem:
        raise UsageError(f"--engine {name}: {problem}")


@final
class Serving(Engine):
    """An engine that chooses, checks and, if needed, replaces the one that computes.

    On the first batch the plain engine computes as well, and another engine is used only if its logits agree: for each
    photo they may differ by `TOLERANCE` times the range of the plain logits. An engine that raises, or that gives NaN
    or infinity, is replaced by the plain one at once, for that batch and all after it.

    Attributes:
        served: how many photos each engine computed.
        remarks: sentences that a user should read.
    """

    def __init__(
        self,
        classifier: Classifier,
        device: torch.device,
        engine: str,
        image_size_px: int,
        batch_size: int,
        speeds: Speeds,
        *,
        is_mirrored: bool = False,
        int8_file: Int8File | None = None,
    ) -> None:
        """Prepares; nothing is built before the first photo.

        Engines with a fixed shape take `batch_size` images at once. If `is_mirrored`, the logits of every engine are
        the mean over each image and its mirror image. With `int8_file`, the engine `int8` is one of them. Raises
        UsageError if the engine cannot run here.
        """
        demand_engine(engine, device, int8_file)
        self.batch_size = batch_size
        self.served: dict[str, int] = {}
        self.remarks: list[str] = []
        self._wanted, self._device = engine, device
        self._classifier, self._image_size_px = classifier, image_size_px
        self._is_mirrored, self._int8_file = is_mirrored, int8_file
        self._plain = self._with_mirror(Plain(classifier, device))
        self._speeds = speeds
        self._clock = time.perf_counter
        self._photos = 0
        self._name: str | None = PLAIN if engine == PLAIN else None
        self._settled = ""
        self._engines: dict[str, Engine] = {PLAIN: self._plain}
        self._refused: set[str] = set()

    @property
    def _offers(self) -> dict[str, Offer]:
        """All engines but plain."""
        made = self._int8_file
        if made is None:
            return OFFERS
        own = Offer(problem_with_openvino, lambda _, __, batch, side: int8(made, batch, side), 8, INT8_TOLERANCE, True)
        return {INT8: own, **OFFERS}

    def expect(self, photos: int | None) -> None:
        """See `Engine`; in a forked process, only the plain engine is safe from then on."""
        self._photos = photos or 0
        self._plain.expect(photos)
        if is_forked() and self._wanted != PLAIN:
            if self._wanted != AUTO:
                self.remarks.append(f"engine {self._wanted} does not survive a fork, so plain computes; use spawn")
            self._wanted, self._name, self._engines = PLAIN, PLAIN, {PLAIN: self._plain}
        elif self._wanted == AUTO:
            self._name = None

    @property
    def chosen(self) -> str:
        """See `Engine`."""
        return self._name or ""

    def settle(self, name: str) -> None:
        """See `Engine`."""
        self._settled = name if name in self._offers or name == PLAIN else ""

    def ready_for_few(self) -> None:
        """See `Engine`; what is built for it is compared with the plain engine, as ever."""
        if self._name is None:
            return
        name, side = self._name, self._image_size_px
        self._wanted = name
        if name != PLAIN:
            noise = torch.randn(FEW, 3, side, side, generator=torch.Generator().manual_seed(0))
            try:
                self._engines[name].ready_for_few()
            except Exception as error:  # each engine fails in its own way
                self._refuse(name, f"cannot take few photos ({_first_line(error)})")
            else:
                self._ready(name, noise, self._plain.compute(noise))
            if name not in self._engines:
                self._wanted = self._name = PLAIN

    def may_leave_plain(self, first_batch: int) -> bool:
        """See `Engine`."""
        return self._wanted != PLAIN and (self._wanted != AUTO or self._photos > first_batch)

    def compute(self, images: torch.Tensor) -> Logits:
        """See `Engine`."""
        if self._name is None:
            logits = self._begin(images)
        elif self._name == PLAIN:
            logits = self._plain.compute(images)
        else:
            logits = self._guarded(images)
        self.served[self._name or PLAIN] = self.served.get(self._name or PLAIN, 0) + len(images)
        return logits

    def sentence(self) -> str:
        """See `Engine`."""
        short = fastest_precision(self._device)
        names = [INT8 if name == INT8 else f"{name} in {'fp32' if name == PLAIN else short}" for name in self.served]
        if len(names) == 1:
            return names[0]
        return ", ".join(
            f"{name} ({counted(self.served[key], 'photo')})" for name, key in zip(names, self.served, strict=True)
        )

    def _begin(self, images: torch.Tensor) -> Logits:
        expected, seconds = self._timed(self._plain, images)
        if not np.isfinite(expected).all():  # nothing to compare an engine with; the caller reports it
            self._name = PLAIN
            return expected
        if self._wanted == AUTO and not self._settled:
            self._name = self._choose(images, expected, seconds)
        elif self._wanted == AUTO:
            is_ready = self._settled == PLAIN or self._ready(self._settled, images, expected) is not None
            self._name = self._settled if is_ready else PLAIN
        else:
            self._name = self._wanted if self._ready(self._wanted, images, expected) is not None else PLAIN
        return expected if self._name == PLAIN else self._guarded(images)

    def _guarded(self, images: torch.Tensor) -> Logits:
        assert self._name is not None
        try:
            logits = self._engines[self._name].compute(images)
            if len(logits) == len(images) and np.isfinite(logits).all():
                return logits
            reason = "it gave NaN, infinity or the wrong number of answers"
        except Exception as error:  # each engine fails in its own way
            reason = _first_line(error)
        self._refuse(self._name, f"failed after {counted(self.served.get(self._name, 0), 'photo')}: {reason}")
        self._name = PLAIN
        return self._plain.compute(images)

    def _choose(self, images: torch.Tensor, expected: Logits, plain_seconds: float) -> str:
        """The engine that should finish the remaining photos first."""
        left = self._photos - len(images)
        if left <= 0:
            return PLAIN
        if not self._speeds.of:
            self._speeds.recall()
        known, full = self._speeds.of, filled(images, self.batch_size)
        if PLAIN not in known:
            seconds = plain_seconds if full is images else self._timed(self._plain, full)[1]
            known[PLAIN] = Speed(len(full) / seconds, 0.0)
        for name, offer in self._offers.items():
            best = min(speed.seconds(left) for other, speed in known.items() if self._may_serve(other))
            if name in known or not self._may_serve(name) or best < offer.worth_seconds:
                continue
            if (ready_seconds := self._ready(name, images, expected)) is not None:
                known[name] = Speed(len(full) / self._fastest(name, full), ready_seconds)
                self._speeds.keep()
        names = [name for name in known if self._may_serve(name)]
        for name in sorted(names, key=lambda name: known[name].seconds(left, is_ready=name in self._engines)):
            if name == PLAIN or self._ready(name, images, expected) is not None:
                self._engines = {PLAIN: self._plain, name: self._engines[name]}  # frees the memory of the others
                return name
        return PLAIN

    def _may_serve(self, name: str) -> bool:
        if name in self._refused:
            return False
        return name == PLAIN or (name in self._offers and self._offers[name].problem(self._device) is None)

    def _ready(self, name: str, images: torch.Tensor, expected: Logits) -> float | None:
        """Builds an engine and compares its answers with the plain ones.

        Returns:
            How many seconds that took; None if the engine is refused, with a remark.
        """
        began = self._clock()
        try:
            engine = self._engines.get(name) or self._make(name)
            difference = relative_difference(engine.compute(images), expected)
        except Exception as error:  # each engine fails in its own way
            self._refuse(name, f"cannot run this network ({_first_line(error)})")
            return None
        allowed = self._offers[name].tolerance
        if not difference <= allowed:
            self._refuse(
                name,
                f"differs from the plain engine on the first {counted(len(images), 'photo')}: logits by up to "
                f"{difference:.2g} of their range, allowed are {allowed:g}",
            )
            return None
        self._engines[name] = engine
        return self._clock() - began

    def _make(self, name: str) -> Engine:
        offer = self._offers[name]
        made = offer.make(self._classifier, self._device, self.batch_size, self._image_size_px)
        return made if offer.is_mirrored else self._with_mirror(made)

    def _with_mirror(self, engine: Engine) -> Engine:
        return Mirrored(engine) if self._is_mirrored else engine

    def _fastest(self, name: str, images: torch.Tensor) -> float:
        return min(self._timed(self._engines[name], images)[1] for _ in range(TIMED_CALLS))

    def _timed(self, engine: Engine, images: torch.Tensor) -> tuple[Logits, float]:
        began = self._clock()
        logits = engine.compute(images)
        return logits, max(self._clock() - began, 1e-9)

    def _refuse(self, name: str, reason: str) -> None:
        self._refused.add(name)
        self._engines.pop(name, None)
        self.remarks.append(f"engine {name} {reason}; another engine is used")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
