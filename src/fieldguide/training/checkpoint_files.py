"""Checkpoints on disk. Two are kept, each a JSON and a safetensors file with checksums; damaged ones are skipped.

Tensors are written first and deleted last: a checkpoint exists as long as its JSON does.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.storage import digest, read_json, write_bytes, write_text
from fieldguide.training.checkpoint import CANDIDATE, MOST_TOLD, Snapshot, capture, plain_state
from fieldguide.training.ends import reason_of_format_1
from fieldguide.training.observers import Callback
from fieldguide.training.plan import Stage
from fieldguide.training.state import State
from fieldguide.training.under_way import UnderWay
from fieldguide.training.writer import Writer

FORMAT = 2
KEPT = 2
MOST_JSON_BYTES = 100_000_000
MOST_HEADER_BYTES = 100_000_000
NETWORKS = ("model", "best", "average", CANDIDATE)  # prefixes of its tensors, besides the optimiser's
MOST_CANDIDATES = 20  # for a soup
OPTIMIZER_TENSORS = 4  # per parameter, at most: two moments, amsgrad's third, a step


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint in a folder."""

    snapshot: Snapshot | None  # without tensors once the training is done
    is_done: bool  # whether it was written at the end of the training
    damaged: tuple[str, ...]  # one sentence per newer checkpoint that was skipped


class Checkpoints(Callback):
    """Saves a training into a folder, made with the first checkpoint; `beside` gives numbers the loop does not know.

    `in_background`: a thread writes a copy while the training goes on. Before the next checkpoint, at a stage's
    beginning and at the end it is waited for; an error of it is raised in the next call.
    """

    def __init__(
        self,
        folder: Path,
        every_minutes: float,
        beside: Callable[[], Mapping[str, list[float]]] = dict,
        *,
        every_epoch: bool = True,
        in_background: bool = False,
    ) -> None:
        self.folder = folder
        self.every_seconds = 60 * every_minutes
        self.beside = beside
        self.every_epoch = every_epoch
        self.writer = Writer(in_background=in_background)
        self._last = time.monotonic()

    def stage_begins(self, stage: Stage, state: State) -> None:
        """Waits, since a stage may fork processes that load photos."""
        self.writer.wait()

    def is_due(self) -> bool:
        """Whether `every_minutes` have passed since the last one, by a monotonic clock."""
        self.writer.demand_no_error()
        return time.monotonic() - self._last >= self.every_seconds

    def save(self, model: nn.Module, state: State, under_way: UnderWay) -> None:
        """Writes a checkpoint, then deletes all but two; between epochs only where it is wanted.

        Raises:
            NotFinite: a weight is not finite; nothing was written.
            OSError: it, or in background the one before, cannot be written; earlier ones are unchanged.
        """
        if not self._is_wanted(state, under_way):
            return
        with self.writer.holding_up():
            self.writer.wait()
            snapshot, beside = capture(model, state, under_way), dict(self.beside())
            copied = self.writer.in_background  # the training goes on to change them
            tensors = {name: value.to("cpu", copy=copied).contiguous() for name, value in snapshot.tensors.items()}
            self.writer.write(lambda: self._write(snapshot.plain, to_bytes(tensors), beside))
        self._last = time.monotonic()

    def _is_wanted(self, state: State, under_way: UnderWay) -> bool:
        """Within an epoch, at a stage's end, and where it is stopped always; else each epoch, or once it is due."""
        is_end = under_way.convergence.is_reached or under_way.epochs >= under_way.stage.epochs
        is_between = under_way.running.steps == 0 and not is_end and state.stopped is None
        return self.every_epoch or not is_between or self.is_due()

    def training_done(self, state: State) -> None:
        """Marks the training as done, unless it was stopped; without tensors, since the bundle has the best weights."""
        self.writer.wait()
        if state.stopped is not None:
            return
        self._write({"state": plain_state(state)}, None, self.beside())
        for number in self.numbers()[:-1]:
            self._remove(number)

    def extend(self, state: State) -> None:
        """Marks a finished training as continued, with the best weights, since the bundle may change soon."""
        assert state.best is not None
        weights = {f"best.{name}": value.contiguous() for name, value in state.best.weights.items()}
        self._write({"state": plain_state(state)}, to_bytes(weights), self.beside())

    def numbers(self) -> list[int]:
        """The checkpoints in the folder, oldest first."""
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal())

    def newest(self, model: nn.Module) -> Found:
        """The newest whole checkpoint whose tensors have the shapes of this network."""
        damaged: list[str] = []
        for number in reversed(self.numbers()):
            try:
                plain, tensors = self._read(number, model)
            except UsageError as error:
                damaged.append(str(error))
                continue
            return Found(Snapshot(tensors or {}, plain), tensors is None, tuple(damaged))
        return Found(None, False, tuple(damaged))

    def _write(self, plain: Mapping[str, Any], tensors: bytes | None, beside: Mapping[str, list[float]]) -> int:
        """Returns the bytes of its tensors."""
        self.folder.mkdir(exist_ok=True)
        there = self.numbers()
        number = there[-1] + 1 if there else 1
        told = None
        if tensors is not None:
            write_bytes(self._tensors(number), tensors)
            told = {"bytes": len(tensors), "sha256": digest(tensors)}
        body = {"format": FORMAT, **plain, "beside": dict(beside), "tensors": told}
        write_text(self._json(number), json.dumps({"sha256": _checksum(body), "checkpoint": body}) + "\n")
        for old in there[: len(there) + 1 - KEPT]:
            self._remove(old)
        for orphan in self.folder.glob("*.safetensors"):  # left by a process that died between the two files
            if not orphan.with_suffix(".json").exists():
                orphan.unlink()
        return 0 if tensors is None else len(tensors)

    def _read(self, number: int, model: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Tensor] | None]:
        body = _read_body(self._json(number))
        if body["tensors"] is None:
            return body, None
        path = self._tensors(number)
        try:
            _demand_sizes(path, model, _candidates(body))
            content = path.read_bytes()
            if digest(content) != body["tensors"]["sha256"]:
                raise UsageError(f"{path}: is damaged (its checksum differs)")
            return body, dict(load(content))
        except UsageError:  # a ValueError, too
            raise
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
        except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{path}: is damaged ({str(error)[:MOST_TOLD]})") from None

    def _remove(self, number: int) -> None:
        self._json(number).unlink(missing_ok=True)
        self._tensors(number).unlink(missing_ok=True)

    def _json(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"

    def _tensors(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def _checksum(body: Mapping[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True).encode())


def _read_body(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if size > MOST_JSON_BYTES:
        raise UsageError(f"{path}: is damaged ({size:,} bytes)")
    data = read_json(path)
    body = data.get("checkpoint") if isinstance(data, dict) else None
    if not isinstance(body, dict) or data.get("sha256") != _checksum(body):
        raise UsageError(f"{path}: is damaged (its checksum differs)")
    if body.get("format") not in (1, FORMAT):
        raise UsageError(f"{path}: has format {body.get('format')!r}; this version reads formats 1 to {FORMAT}")
    if not isinstance(body.get("state"), dict) or "tensors" not in body:
        raise UsageError(f"{path}: is damaged (it holds no state)")
    if body["format"] == 1:
        _upgrade(body["state"])
    beside = body.setdefault("beside", {})
    if not isinstance(beside, dict) or not all(map(_are_numbers, beside.values())):
        raise UsageError(f"{path}: is damaged (the numbers beside the state are no lists of numbers)")
    return body


def _upgrade(state: dict[str, Any]) -> None:
    """Format 1 says why a stage ended in a sentence; what is damaged is left to `state_of`."""
    with contextlib.suppress(TypeError, ValueError):
        state["ended"] = [[n, improved, reason_of_format_1(str(why))] for n, improved, why in state.get("ended", ())]


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def _candidates(body: Mapping[str, Any]) -> int:
    """How many soup candidates the file may hold."""
    told = body["state"].get("candidates", [])
    return min(len(told), MOST_CANDIDATES) if isinstance(told, list) else 0


def _demand_sizes(path: Path, model: nn.Module, candidates: int) -> None:
    """Checks the file's size and header against the network, before any tensor takes memory."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    values = sum(math.prod(shape) for shape in own.values())
    size = path.stat().st_size
    if size > 8 * values * (len(NETWORKS) + candidates + OPTIMIZER_TENSORS) + MOST_HEADER_BYTES:
        raise UsageError(f"{path}: is damaged ({size:,} bytes, more than this network can need)")
    shapes = {tuple(value.shape) for value in model.parameters()} | {()}
    for name, shape in _header_shapes(path, size).items():
        part, _, rest = name.partition(".")
        if part == CANDIDATE:
            rest = rest.partition(".")[2]
        if not _is_of(own, rest, shape) if part in NETWORKS else part != "optimizer" or shape not in shapes:
            raise UsageError(
                f"{path}: is damaged or belongs to another network ({name} has the shape {shape})"[
                    : len(str(path)) + MOST_TOLD
                ]
            )


def _is_of(own: Mapping[str, tuple[int, ...]], name: str, shape: tuple[int, ...]) -> bool:
    """Whether a network has this tensor, or gets it by folding batch normalisation: a filter's bias."""
    layer, _, kind = name.rpartition(".")
    return own.get(name) == shape or (
        kind == "bias" and len(shape) == 1 and own.get(f"{layer}.weight", ())[:1] == shape and name not in own
    )


def _header_shapes(path: Path, size: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name, from the header of a safetensors file (8 bytes of length, then JSON)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, MOST_HEADER_BYTES):
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
