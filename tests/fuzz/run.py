"""The long run of `make fuzz`: each area in a child process with bounded memory, watched for hangs, until time is up.

    python -m tests.fuzz.run [MINUTES] [AREA ...]

A crash, an error that is no person's, an example over `MOST_SECONDS`, and memory over `MOST_GROWTH_MIB` end it with 1;
the content stays in `fuzz-findings/` and becomes a test in tests/fuzz/test_fuzz.py.
"""

import multiprocessing
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.areas import AREAS, attempt
from tests.fuzz.damage import damaged

MOST_SECONDS, MOST_GROWTH_MIB, EXAMPLES_AT_ONCE = 30, 1_024, 500
FINDINGS = Path("fuzz-findings")


def _mib(what: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split(f"{what}:")[1].split()[0]) / 1024


def _growth_mib(read: Callable[[], bool]) -> tuple[bool, float]:
    """What one example took at its peak: the harness itself grows with its examples, and is not meant."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before = _mib("VmRSS")
    return read(), _mib("VmHWM") - before


def _child(name: str, start: int, seconds: float, counts: "SynchronizedArray[int]") -> None:
    """Feeds examples until time is up; counts[0] fed, counts[1] taken, counts[2] MiB at the most."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", module="hypothesis")
    area, began = AREAS[name], time.monotonic()
    seeds, current = area.seeds(), FINDINGS / f"{name.replace(' ', '-').replace('.', '')}-{start}.bin"
    resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))  # what is promised and not touched is no memory taken

    def feed(content: bytes) -> None:
        current.write_bytes(content)
        try:
            taken, growth = _growth_mib(lambda: attempt(area, content))
            assert growth < MOST_GROWTH_MIB, f"one example took {growth:,.0f} MiB"
        except BaseException:
            traceback.print_exc(limit=-6)
            sys.stderr.flush()
            os._exit(1)  # hypothesis would look for a smaller one, and print all of it
        counts[0], counts[1], counts[2] = counts[0] + 1, counts[1] + taken, max(counts[2], round(growth))

    options = settings(
        max_examples=EXAMPLES_AT_ONCE,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    number = start
    while time.monotonic() - began < seconds:
        seed(number)(options(given(damaged(seeds))(feed)))()
        number += 1
    current.unlink(missing_ok=True)


def fuzz(name: str, seconds: float, start: int) -> bool:
    """Fuzzes one area; prints its counts and says whether all was well."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 3)
    child = context.Process(target=_child, args=(name, start, seconds, counts))
    child.start()
    fed, since, hung = -1, time.monotonic(), False
    while child.is_alive():
        child.join(1)
        if counts[0] != fed:
            fed, since = counts[0], time.monotonic()
        elif time.monotonic() - since > MOST_SECONDS + (60 if fed < 1 else 0):  # the first needs its imports
            hung = True
            child.kill()
            child.join()
    well = child.exitcode == 0 and not hung
    verdict = "ok" if well else f"HANG, over {MOST_SECONDS} s" if hung else f"FAILED, exit code {child.exitcode}"
    print(f"{name:<22} {counts[0]:>8,} fed  {counts[1]:>7,} taken  {counts[2]:>5,} MiB  {verdict}", flush=True)
    return well


def main() -> int:
    """Goes through the areas, each for its share of the time."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    names = sys.argv[2:] or list(AREAS)
    FINDINGS.mkdir(exist_ok=True)
    start = int(time.time())
    print(f"seed {start}; {minutes:g} minutes over {len(names)} areas", flush=True)
    well = [fuzz(name, 60 * minutes / len(names), start) for name in names]
    if all(well):
        if not any(FINDINGS.iterdir()):
            FINDINGS.rmdir()
        return 0
    print(f"what did it is kept in {FINDINGS}/", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
