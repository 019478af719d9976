"""Photos a second and latency of `fieldguide serve`, beside the engine alone and beside LitServe and Ray Serve.

Usage: python benchmarks/serve.py RUN [--photos PHOTOS] [--clients 1 8 64] [--rounds 3] [--short]
       python benchmarks/serve.py RUN --soak-minutes 10
All have the same model. Each server runs in a process of its own, and so do its clients, which send photos one at a
time per connection. Every answer is held against the engine's own: another class, or a confidence that differs by over
0.001, ends the benchmark. Contestants take turns, and the engine alone is measured before and after each, so ratios
are of one moment. Memory is the proportional set size of the server's processes; a soak has least and most of each
minute.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paths
import photos
import serve_clients
import side_by_side
from memory import look

SOURCE = Path(__file__).resolve().parent.parent / "src"
OURS, LITSERVE, RAY = "fieldguide serve", "LitServe", "Ray Serve"
PEERS = {  # the module that it needs, its script, and how to install it
    LITSERVE: ("litserve", "serve_litserve.py", "pip install litserve"),
    RAY: ("ray.serve", "serve_ray.py", "pip install 'ray[serve]'"),
}
START_SECONDS = 180
TOLERANCE = 1e-3
SOAK_CLIENTS = 64
WATCH_SECONDS = 5


def main() -> None:
    """Prints a table, and saves it."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "photos"
        staged.mkdir()
        what = photos.stage_flat(options.photos, staged, options.images)
        lines = _soak(options, staged) if options.soak_minutes else _side_by_side(options, staged)
    about, command = side_by_side.machine(), paths.shareable_command(["python", "benchmarks/serve.py", *sys.argv[1:]])
    text = [
        "# Serving", "",
        f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB  ",
        f"{about['date']}, {about['commit']}, `{shlex.join(command)}`", "",
        f"{what}, engine {options.engine}, {options.seconds:g} s a row and round, {options.rounds} rounds", "",
        *lines, "",
    ]  # fmt: skip
    print("\n".join(text))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(text))


def _side_by_side(options: argparse.Namespace, staged: Path) -> list[str]:
    there = [OURS, *(name for name, (module, _, _) in PEERS.items() if _is_installed(module))]
    servers = [name for name in there if not options.only or name in options.only]
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    memory: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name in servers if number % 2 == 0 else reversed(servers):
            with _server(name, options, staged) as (port, process):
                for clients in options.clients:
                    before, expected = _raw(options, staged)
                    speed, median, high = _drive(name, port, clients, options, staged, expected)
                    after, _ = _raw(options, staged)
                    ratio = speed / statistics.mean((before, after))
                    found.setdefault((name, clients), []).append((speed, median, high, ratio))
                    memory.setdefault(name, []).append(look(process.pid, 0).pss_mb)
                    print(f"{name}, {clients} clients: {speed:.1f}/s, {ratio:.2f} of the engine", file=sys.stderr)
    lines = ["| server | clients | photos/s | / engine alone | median, ms | 99 %, ms |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for (name, clients), rows in sorted(found.items()):
        speed, median, high, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
        low, top = min(row[3] for row in rows), max(row[3] for row in rows)
        cell = f"{ratio:.2f} ({low:.2f} to {top:.2f})"
        lines.append(f"| {name} | {clients} | {speed:.1f} | {cell} | {1000 * median:.0f} | {1000 * high:.0f} |")
    told = [
        f"{name}: {rows[0]:,.0f} MB after the first clients, {rows[-1]:,.0f} at the end"
        for name, rows in memory.items()
    ]
    missing = [f"{name} is not installed: {how}" for name, (_, _, how) in PEERS.items() if name not in there]
    return [*lines, "", *[f"- {line}" for line in (*told, *missing)]]


def _is_installed(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(module) is not None
    return False


def _soak(options: argparse.Namespace, staged: Path) -> list[str]:
    """One server under 64 clients, for minutes; its memory once a stretch."""
    lines = ["| minutes | photos | / engine alone | memory, MB, least to most |", "| ---: | ---: | ---: | ---: |"]
    total, began = 0, time.monotonic()
    first, expected = _raw(options, staged)
    speeds = [first]
    with _server(OURS, options, staged) as (port, process):
        stretch = min(60.0, 60 * options.soak_minutes)
        while (minutes := (time.monotonic() - began) / 60) < options.soak_minutes:
            options.seconds = stretch
            with _memory_watched(process.pid) as memory:
                speed, _, _ = _drive(OURS, port, SOAK_CLIENTS, options, staged, expected)
            total += round(speed * stretch)
            options.seconds = 10
            speeds.append(_raw(options, staged)[0])
            ratio = speed / statistics.mean(speeds[-2:])
            cells = f"{min(memory):,.0f} to {max(memory):,.0f}"
            lines.append(f"| {minutes:.0f} | {total:,} | {ratio:.2f} | {cells} |")
            print(lines[-1], file=sys.stderr)
    return lines


@contextlib.contextmanager
def _memory_watched(pid: int) -> Iterator[list[float]]:
    """The proportional set size of a process and its children in MB, every few seconds."""
    found, is_over = [look(pid, 0).pss_mb], threading.Event()

    def watch() -> None:
        while not is_over.wait(WATCH_SECONDS):
            found.append(look(pid, 0).pss_mb)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def _raw(options: argparse.Namespace, staged: Path) -> tuple[float, list[tuple[str, float]]]:
    """Photos a second of the engine alone, and its answers."""
    seconds = max(3.0, options.seconds / 2)
    ran = [str(options.run), str(staged), "--engine", options.engine, "--seconds", str(seconds)]
    found = _json_of([str(side_by_side.HERE / "peers" / "serve_raw.py"), *ran])
    return found["photos_per_second"], [tuple(each) for each in found["answers"]]


def _drive(
    name: str, port: int, clients: int, options: argparse.Namespace, staged: Path, expected: Sequence[tuple[str, float]]
) -> tuple[float, float, float]:
    """Photos a second, and the median and the 99th percentile of their seconds, after every answer was checked."""
    asked = [str(staged), "--port", str(port), "--clients", str(clients), "--seconds", str(options.seconds)]
    found = _json_of([str(side_by_side.HERE / "serve_clients.py"), *asked, "--body", _body_of(name)])
    for photo, bodies in found["bodies"].items():
        label, confidence = expected[int(photo)]
        for answer, _ in bodies:
            made = answer["predictions"][0] if name == OURS else answer
            if made.get("label") != label or abs(made["confidence"] - confidence) > TOLERANCE:
                raise SystemExit(f"{name}: photo {photo} is {label} {confidence:.6f}, and the answer was {made}")
    latencies = sorted(found["latencies"])
    at = [latencies[min(len(latencies) - 1, int(share * len(latencies)))] for share in (0.5, 0.99)]
    return len(latencies) / found["seconds"], at[0], at[1]


def _json_of(command: Sequence[str]) -> dict:
    done = subprocess.run([sys.executable, *command], env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def _server(name: str, options: argparse.Namespace, staged: Path) -> Iterator[tuple[int, subprocess.Popen]]:
    """A server that answers, in a session of its own."""
    photo = min(staged.iterdir()).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ours = ["-m", "fieldguide", "serve", str(options.run)]
    script = ours if name == OURS else [str(side_by_side.HERE / "peers" / PEERS[name][1]), str(options.run)]
    command = [sys.executable, *script, "--port", str(port), "--engine", options.engine]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(port, process, log, serve_clients.requests_of([photo], _body_of(name))[0])
            yield port, process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int, process: subprocess.Popen, log, request: bytes) -> None:
    """Until a photo is answered: some listen before their model is loaded."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request)
            if b" 200 " in connection.recv(65536)[:20]:
                return
        time.sleep(0.2)
    log.seek(0)
    raise SystemExit(f"the server does not answer: {log.read().decode(errors='replace')[-500:]}")


def _body_of(name: str) -> str:
    return serve_clients.RAW if name == OURS else serve_clients.BASE64


def _environment() -> dict[str, str]:
    before = os.environ.get("PYTHONPATH", "")
    own = {"PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCE), before)))}
    return os.environ | own | {"GLIBC_TUNABLES": side_by_side.ALLOCATOR}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photos", type=Path, help="folder with train/CLASS; default: made-up photos of 500x375")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--soak-minutes", type=float, default=0, help="fieldguide alone under 64 clients, so long")
    parser.add_argument("--only", nargs="+", choices=(OURS, *PEERS), help="these servers alone")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Markdown")
    parser.add_argument("--short", action="store_true", help="one round of a few seconds a row")
    options = parser.parse_args()
    options.seconds = options.seconds or (6 if options.short else 20)
    options.rounds = options.rounds or (1 if options.short else 3)
    name = "serve-soak.md" if options.soak_minutes else "serve-short.md" if options.short else "serve.md"
    options.output = options.output or side_by_side.HERE / "results" / name
    return options


if __name__ == "__main__":
    main()
