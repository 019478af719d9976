"""`fieldguide serve`: a model behind HTTP, until a signal comes."""

import gc
import importlib.util
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from fieldguide.commands.judging.models import Loaded, Runs, load_runs
from fieldguide.commands.terminal.interrupts import Interrupts
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.deploy.answers import Answering, problem_with_threshold
from fieldguide.deploy.names import AS_TRAINED, AUTO
from fieldguide.errors import MachineError, UsageError, counted
from fieldguide.storage import read_text
from fieldguide.world import Device

PACKAGES = ("starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client")
TOKEN = "FIELDGUIDE_TOKEN"
SHORTEST_TOKEN = 16
EXPECTED_PHOTOS = 1_500  # for so many `auto` chooses its engine: more, and it would compile for a minute first
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Served:
    """What a server did: how many photos were accepted and left `unanswered` by a second signal."""

    unanswered: int = 0


def serve(
    run: Runs,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    allow_hosts: Sequence[str] = (),
    unsure_below: float | None = None,
    max_upload_mb: float = 64,
    max_queue: int = 256,
    device: Device = "auto",
    engine: str = AUTO,
    flips: str = AS_TRAINED,
    allow_broken_rules: bool = False,
    quiet: bool = False,
    listening: Callable[[int], None] = lambda _: None,
) -> Served:
    """Answers photos over HTTP until SIGINT, SIGTERM or SIGHUP; then what was accepted is answered.

    Args:
        run: a run, a bundle or an export; or several runs with the same classes, as an ensemble.
        host: an address or a name of this machine; another than loopback needs a token.
        port: 0: one that is free.
        token_file: a file whose first line requests must send as a bearer token; None: the environment's
            `FIELDGUIDE_TOKEN`, if it is set.
        allow_hosts: names that the Host header may have, besides `host`, `localhost` and addresses.
        unsure_below: in (0, 1]; the status of a less confident prediction is `unsure`.
        max_upload_mb: of one request.
        max_queue: photos that may wait at once.
        device, engine, flips, allow_broken_rules: as for `predict`; `auto` chooses for many photos.
        quiet: show nothing.
        listening: gets the port when the server listens.

    Raises:
        UsageError: wrong options, a missing package, a port that is taken, or as `predict` for the runs.
        MachineError: the server ended by itself.
    """
    screen = Screen(quiet=quiet)
    warn_of_hidden_gpu(device, screen)
    _demand_options(port, unsure_below, max_upload_mb, max_queue)
    token = _token(None if token_file is None else Path(token_file))
    from fieldguide.deploy.server import guard
    from fieldguide.deploy.server.app import Service
    from fieldguide.deploy.server.limits import MEGABYTE, Limits
    from fieldguide.deploy.server.process import Running

    if token is None and not guard.is_loopback(host):
        raise UsageError(
            f"--host {host}: other machines could reach it; give a token of your own: --token-file FILE, or {TOKEN}"
        )
    names = {name.strip().lower() for name in allow_hosts}
    limits = Limits(photos=max_queue, upload_bytes=round(max_upload_mb * MEGABYTE))
    with _bound(host, port) as own:
        loaded = load_runs(run, device, engine, draft=True, allow_broken_rules=allow_broken_rules, flips=flips)
        for sentence in (*loaded.sentences(), *ready(loaded.predictor)):
            screen.warn(sentence)
        version = metadata.version("fieldguide")
        name, hosts = name_of(loaded.paths), {"localhost", host.lower(), *names}
        service = Service(loaded.predictor, name, version, unsure_below, token, hosts, names, limits)
        with Interrupts() as interrupts, _settled_memory():
            running = Running(service, own, screen.warn)
            screen.say(_sentence(loaded, host, running.port, has_token=token is not None))
            listening(running.port)
            while running.is_alive and not interrupts.received:
                time.sleep(LOOK_SECONDS)
            first, interrupts.received = interrupts.received, ""
            if not first:
                raise MachineError("the server ended by itself; see the messages above")
            screen.say(f"{first}: answering what was accepted; again: stop at once")
            left = running.stop(lambda: bool(interrupts.received))
    screen.say(f"stopped; {counted(left, 'photo')} not answered" if left else "stopped")
    return Served(left)


def name_of(paths: Sequence[Path]) -> str:
    """A model's name in paths of the server: that of its run; several are `ensemble`."""
    if len(paths) > 1:
        return "ensemble"
    place = paths[0].resolve()
    name = place.parent.name if place.name == "bundle" else place.name
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".") or "model"


def missing_packages() -> list[str]:
    """What the extra `serve` would install."""
    return [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]


def _demand_options(port: int, unsure_below: float | None, max_upload_mb: float, max_queue: int) -> None:
    problems = []
    if missing := missing_packages():
        problems.append(f"serve needs {', '.join(missing)}: pip install 'fieldguide[serve]'")
    if not 0 <= port <= 65_535:
        problems.append(f"--port {port}: must be from 0 to 65,535")
    if unsure_below is not None and (problem := problem_with_threshold(unsure_below)):
        problems.append(f"--unsure-below {unsure_below}: {problem}")
    if not 0.001 <= max_upload_mb <= 512:
        problems.append(f"--max-upload-mb {max_upload_mb:g}: must be from 0.001 to 512")
    if not 1 <= max_queue <= 100_000:
        problems.append(f"--max-queue {max_queue}: must be from 1 to 100,000")
    if problems:
        raise UsageError(*problems)


def _token(file: Path | None) -> bytes | None:
    """The token that requests need; None: none."""
    where = f"--token-file {file}" if file else TOKEN
    try:
        text = read_text(file) if file else os.environ.get(TOKEN)
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if text is None:
        return None
    token = text.strip().partition("\n")[0].strip()
    if len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            f"{where}: a token has {SHORTEST_TOKEN} or more letters, digits or signs, without spaces; "
            "make one: openssl rand -hex 32"
        )
    return token.encode()


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket with its address, taken before a model is loaded in vain; nobody can connect yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        own = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: is no address of this machine ({error})") from None
    with own:
        try:
            if os.name == "posix":
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just stopped
            own.bind(address)
        except OSError as error:
            raise UsageError(
                f"--port {port}: cannot be taken on {host} ({error.strerror or error}); stop the program that has it, "
                "or give another: --port 0 takes one that is free"
            ) from None
        yield own


@contextmanager
def _settled_memory() -> Iterator[None]:
    """What is loaded stays, so Python need not look through it for garbage: 0.2 s each time, for all threads."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ready(predictor: Answering) -> Iterable[str]:
    """Chooses and builds the engine with photos of noise, so that no client waits for it; gives its remarks."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    answers = predictor.logits([noise] * EXPECTED_PHOTOS, batch_size=predictor.engine_batch_size)
    next(iter(answers))
    predictor.ready_for_few()
    return predictor.remarks


def _sentence(loaded: Loaded, host: str, port: int, *, has_token: bool) -> str:
    what = ", ".join(map(str, loaded.paths))
    classes = counted(len(loaded.predictor.classes), "class")
    where = f"[{host}]" if ":" in host else host
    needs = ", with the token" if has_token else ""
    engine = ", ".join(dict.fromkeys(loaded.predictor.engines))
    return f"serving {what} ({classes}, {engine}) at http://{where}:{port}/{needs}; stop: Ctrl-C"
