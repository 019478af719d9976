"""torch.compile in a training: whether it pays, measured in a process of its own; and one graph a stage.

A process of its own can be ended when it takes too long. What it compiled lies in torch's cache on disk, so the
training does not compile it from nothing.
"""

import contextlib
import copy
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fieldguide.errors import duration
from fieldguide.model.classifier import Classifier
from fieldguide.recipe.lives import PlannedRecipe
from fieldguide.training.step import MicroBatch
from fieldguide.world import can_compile, hush_compiler
from fieldguide.world.processes import Team

FEWEST_STEPS = 2_000  # of a training; with fewer, no gain that was ever reported makes up for the measuring
MOST_SECONDS, SHARE_OF_MINUTES = 120.0, 0.05  # to compile and measure
FROM_MINUTES = 20.0  # below these seconds, torch would not even have started


@dataclass(frozen=True)
class Trial:
    """Forward and backward pass of one piece of a batch, as they are and compiled."""

    plain_seconds: float
    compiled_seconds: float
    compile_seconds: float  # until the first compiled pass was done

    def saves(self, passes: int, stages: int) -> float:
        """Seconds that compiling saves in so many passes; each stage compiles once."""
        return passes * (self.plain_seconds - self.compiled_seconds) - stages * self.compile_seconds


@dataclass(frozen=True)
class Choice:
    """Whether a training compiles, and why."""

    compiles: bool
    told: str  # a sentence; empty where there was nothing to choose


NO = Choice(False, "")


def may_pay(recipe: PlannedRecipe, device: torch.device) -> bool:
    """Whether compiling is to be measured: never on a CPU, where it was measured not to pay (docs/performance.md)."""
    is_open = recipe.training.compile == "auto" and recipe.execution == "fast"
    return is_open and device.type == "cuda" and can_compile(device)


def choose(
    model: Classifier, recipe: PlannedRecipe, precision: str, photos: int, steps: int, seconds_left: float | None
) -> Choice:
    """Measures compiling on a GPU, where it could pay; `photos` go through the network at once.

    Args:
        steps: of the whole training, each of `training.batch_size` photos.
        seconds_left: for the whole command; None: no limit.
    """
    training, device = recipe.training, next(model.parameters()).device
    phases = [phase for phase in training.phases if phase.method != "probe" and not phase.is_left_out]
    if not phases or steps < FEWEST_STEPS:
        return NO
    most = MOST_SECONDS if seconds_left is None else min(MOST_SECONDS, SHARE_OF_MINUTES * seconds_left)
    if most < FROM_MINUTES:
        return NO
    asked = {
        "photos": photos,
        "side_px": phases[0].image_size_px or recipe.data.image_size_px,
        "batch_norm": phases[0].batch_norm,
        "trainable": phases[0].trainable,
        "precision": precision,
        "device": str(device),
        "channels_last": recipe.execution == "fast",
    }
    try:
        trial = measure(model, asked, most)
    except TrialFailedError as error:
        return Choice(False, f"not compiled: {error}")
    return decide(trial, steps * -(-training.batch_size // photos), len(phases) + training.rounds.max_rounds, photos)


def decide(trial: Trial, passes: int, stages: int, photos: int) -> Choice:
    """Compiles where that saves time in all."""
    saves = trial.saves(passes, stages)
    measured = (
        f"{photos} photos take {1000 * trial.plain_seconds:.3g} ms forward and backward, compiled "
        f"{1000 * trial.compiled_seconds:.3g} ms, and compiling takes {duration(trial.compile_seconds)}"
    )
    told = "compiled" if saves > 0 else "not compiled"
    return Choice(saves > 0, f"{told}: {measured}")


class TrialFailedError(Exception):
    """Nothing was measured; says why."""


def measure(model: Classifier, asked: dict[str, Any], most_seconds: float) -> Trial:
    """A trial in a process of its own, which ends after so many seconds; the model stays as it is.

    Raises TrialFailedError if it took longer or failed.
    """
    if torch.device(asked["device"]).type == "cuda":
        torch.cuda.empty_cache()  # room for the other process
    sent = io.BytesIO()
    try:
        torch.save((copy.deepcopy(model).cpu(), asked), sent)
    except (AttributeError, TypeError, pickle.PicklingError) as error:  # a backbone that holds a function of its own
        raise TrialFailedError(f"this network cannot be given to another process ({str(error)[:160]})") from None
    places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "fieldguide.assemble.compile_trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": places},
        start_new_session=True,  # with the processes that compile for it
    )
    try:
        out, told = child.communicate(sent.getvalue(), timeout=most_seconds)
    except subprocess.TimeoutExpired:
        raise TrialFailedError(f"compiling took over {most_seconds:.0f} s") from None
    finally:
        _end(child)
    if child.returncode:
        ended = f"ended with code {child.returncode}"
        last = (told.decode("utf-8", "replace").strip().splitlines() or [ended])[-1]
        raise TrialFailedError(f"torch.compile failed ({last[:200]})")
    return Trial(**json.loads(out.decode().splitlines()[-1]))


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ends a child and its own children."""
    with contextlib.suppress(AttributeError, ProcessLookupError, PermissionError):  # no groups on Windows
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def usual_piece(batch_size: int, micro_batch: MicroBatch, team: Team | None = None) -> int:
    """How many photos most passes of this process have."""
    start, stop = (0, batch_size) if team is None else team.part(batch_size)
    count = micro_batch.count(batch_size if team is None else team.most(batch_size))
    least, more = divmod(stop - start, count)
    return least + (2 * more > count)


@dataclass
class Graphs:
    """Compiles the training pass of the usual number of photos, once a stage; all else runs as it is.

    The odd last batch and the evaluation would each need another graph. A stage whose pieces were halved where memory
    ran out gets another one.
    """

    batch_size: int
    micro_batch: MicroBatch  # the training's own, which changes where memory runs out
    team: Team | None = None
    seconds: list[float] = field(default_factory=list)  # of the first forward pass of each graph

    def begin(self, model: Classifier) -> None:
        """Forgets the graph of the stage before."""
        hush_compiler()
        torch.compiler.reset()
        model.compile(dynamic=False)
        plain: Callable[[torch.Tensor], Any] = model._call_impl
        compiled, done = model._compiled_call_impl, set[int]()
        assert compiled is not None

        def call(images: torch.Tensor) -> Any:
            count = len(images)
            if not (model.training and torch.is_grad_enabled() and count == self._usual()):
                return plain(images)
            began, is_new = time.perf_counter(), count not in done
            found = compiled(images)
            if is_new:
                done.add(count)
                self.seconds.append(time.perf_counter() - began)
            return found

        model._compiled_call_impl = call

    def _usual(self) -> int:
        return usual_piece(self.batch_size, self.micro_batch, self.team)

    def told(self) -> dict[str, Any]:
        """Figures for the result: those of this process."""
        return {"graphs": len(self.seconds), "seconds": sum(self.seconds)}


def received() -> tuple[Classifier, dict[str, Any]]:
    """In the other process: what `measure` sent. It comes from this program's own pipe, never from a file."""
    found: tuple[Classifier, dict[str, Any]] = torch.load(
        io.BytesIO(sys.stdin.buffer.read()), pickle_module=pickle, weights_only=False
    )
    return found
