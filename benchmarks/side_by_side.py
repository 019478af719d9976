"""Runs contestants in turn on the same photos: each in its own process, several rounds, one table."""

import dataclasses
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import children
import paths
import torch

from fieldguide.world import multiplies_bfloat16

HERE = Path(__file__).resolve().parent
ALLOCATOR = (  # what fieldguide's command sets for itself; see README.md
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:"
    "glibc.malloc.trim_threshold=68719476736:glibc.malloc.top_pad=268435456"
)
# Where the processor does not multiply bf16 itself, torch emulates it, many times slower: fp32 is best there.
BFLOAT16 = multiplies_bfloat16(torch.device("cpu"))
HALF = ("--precision", "bf16") if BFLOAT16 else ()
NUMBERS = "bf16" if BFLOAT16 else "fp32"  # in the names of the rows
TOLERATED_CORES = 0.2  # that other processes keep busy during a run
Check = Callable[[Path, dict[str, object]], str]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of a table.

    Attributes:
        name: as the table shows it.
        script: in benchmarks/peers.
        options: for the script.
        tunables: GLIBC_TUNABLES that it is started with.
        is_ours: fieldguide; not counted among the peers.
        raw: the name of the contestant that is this one's engine alone, without files; a column holds it against that.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    tunables: str = ""
    is_ours: bool = False
    raw: str = ""


@dataclasses.dataclass
class Row:
    """What a contestant's rounds gave."""

    contestant: Contestant
    results: list[dict[str, object]] = dataclasses.field(default_factory=list)
    failure: str = ""

    def values(self, key: str) -> list[float]:
        return [float(result[key]) for result in self.results if result.get(key) is not None]

    def median(self, key: str) -> float | None:
        values = self.values(key)
        return statistics.median(values) if values else None


def python(chosen: str | None) -> str:
    """The benchmarks' own interpreter, where `make bench-env` made one."""
    own = HERE / ".venv" / "bin" / "python"
    return chosen or (str(own) if own.exists() else sys.executable)


def run(
    contestants: Sequence[Contestant],
    common: Sequence[str],
    rounds: int,
    interpreter: str,
    timeout_seconds: int,
    check: Check = lambda *_: "",
) -> list[Row]:
    """Every contestant once a round; every second round in the opposite order.

    Args:
        contestants: in the table's order.
        common: options that every script gets.
        rounds: how often.
        interpreter: that runs the scripts.
        timeout_seconds: for one run; what takes longer failed.
        check: the folder that a script wrote into, and its result, to what is wrong with it, or an empty text. It may
            add to the result.
    """
    rows = [Row(contestant) for contestant in contestants]
    for number in range(rounds):
        for row in rows if number % 2 == 0 else reversed(rows):
            if row.failure:
                continue
            print(f"round {number + 1} of {rounds}: {row.contestant.name} ...", file=sys.stderr, end=" ", flush=True)
            result, row.failure = _run_once(row.contestant, common, interpreter, timeout_seconds, check)
            if result:
                row.results.append(result)
            print(row.failure or f"{result['images_per_second']:.1f} images/s", file=sys.stderr)
    return rows


def _run_once(
    contestant: Contestant, common: Sequence[str], interpreter: str, timeout_seconds: int, check: Check
) -> tuple[dict[str, object], str]:
    command = [interpreter, str(HERE / "peers" / contestant.script), *common, *contestant.options]
    with tempfile.TemporaryDirectory() as folder:
        ended = children.run(command, Path(folder), timeout_seconds, contestant.tunables)
        if ended.failure:
            return {}, ended.failure
        result = json.loads(ended.output.strip().splitlines()[-1])
        result |= {"wall_seconds": ended.wall_seconds, "other_cores": ended.other_cores, **ended.peaks}
        if problem := check(Path(folder), result):
            return {}, f"could not run: {problem}"
    return result, ""


def machine() -> dict[str, object]:
    """What the figures depend on besides the contestants."""
    processor, memory = platform.machine(), 0
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            memory = int(line.split()[1])
    flags = next((line.split() for line in _lines("/proc/cpuinfo") if line.startswith("flags")), [])
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gb": round(memory * 1024 / 1e9, 1),
        "matrix_units": [flag for flag in flags if flag.startswith("amx") or flag == "avx512_bf16"],
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def table(rows: Sequence[Row], yardstick: str, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    """A Markdown table: images/s with its range, ratios, and more columns.

    Args:
        rows: what was measured.
        yardstick: the name of the contestant that the first ratio is against.
        columns: (heading, key of a result, decimals) each.
    """
    speeds = {row.contestant.name: row.median("images_per_second") for row in rows}
    peers = [row for row in rows if not row.contestant.is_ours and row.results]
    fastest = max((row.median("images_per_second") for row in peers), default=None)
    against: list[tuple[str, Callable[[Contestant], float | None]]] = [(yardstick, lambda _: speeds.get(yardstick))]
    if peers:
        against.append(("fastest peer", lambda _: fastest))
    if any(row.contestant.raw in speeds for row in rows):
        against.append(("its raw engine", lambda contestant: speeds.get(contestant.raw)))
    heads = [
        "contestant",
        "images/s",
        "range",
        *(f"/ {name}" for name, _ in against),
        *(head for head, _, _ in columns),
    ]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for row in rows:
        speed = speeds[row.contestant.name]
        if speed is None:
            lines.append(f"| {row.contestant.name} | {row.failure} |{' |' * (len(heads) - 2)}")
            continue
        values = row.values("images_per_second")
        cells = [f"{speed:.1f}", f"{min(values):.1f} to {max(values):.1f}"]
        cells += [_ratio(speed, base(row.contestant)) for _, base in against]
        for _, key, decimals in columns:
            value = row.median(key)
            cells.append("" if value is None else f"{value:.{decimals}f}")
        name = row.contestant.name + (f" (then {row.failure})" if row.failure else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else ""


def _disturbance(rows: Sequence[Row]) -> list[str]:
    """A paragraph where other processes kept the machine busy, for then the figures are none to quote."""
    others = [value for row in rows for value in row.values("other_cores")]
    if not others or max(others) < TOLERATED_CORES:
        return []
    return [
        f"**Disturbed**: other processes kept {statistics.median(others):.1f} of {os.cpu_count()} cores busy meanwhile "
        f"(median of the runs; {min(others):.1f} to {max(others):.1f}). These figures show that contestants run, not "
        "how fast they are.",
        "",
    ]


def save(stem: Path, title: str, sections: Sequence[tuple[str, list[str], list[Row]]], command: Sequence[str]) -> None:
    """Writes STEM.md and STEM.json, without this machine's paths, and prints the former."""
    about, command = machine(), paths.shareable_command(command)
    text = [f"# {title}", ""]
    text += [f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}, "]
    versions: dict[str, str] = {}
    for _, _, rows in sections:
        for row in rows:
            for result in row.results:
                versions |= result["versions"]
    text += [", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".  "]
    text += [f"{about['date']}, {about['commit']}, `{shlex.join(command)}`", ""]
    text += _disturbance([row for _, _, rows in sections for row in rows])
    for heading, lines, _ in sections:
        text += [f"## {heading}", "", *lines, ""]
    written = "\n".join(text)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(written)
    plain = {
        "title": title,
        "machine": about,
        "versions": versions,
        "command": command,
        "sections": [
            {
                "heading": heading,
                "rows": [
                    {**dataclasses.asdict(row.contestant), "failure": row.failure, "results": row.results}
                    for row in rows
                ],
            }
            for heading, _, rows in sections
        ],
    }
    stem.with_suffix(".json").write_text(json.dumps(plain, indent=1) + "\n")
    print(written)
    print(f"saved as {stem.with_suffix('.md')} and {stem.with_suffix('.json').name}", file=sys.stderr)
