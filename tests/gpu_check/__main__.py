"""`python -m tests.gpu_check [--device cpu] [--minutes 7.5] [-o FOLDER]`: checks, then speeds, as JSON and Markdown.

Needs no network and no weights, and no install beside torch, torchvision and timm where `--wheels FOLDER` has the rest
(`wheels.py`). What a missing package or the time does not allow is listed as not run, with its
reason; the exit code is 1 if a check failed, and 0 otherwise. On a CPU the networks are tiny, and no speed is a result.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gpu_check import wheels

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src")]  # from a clone, without an install


def main() -> int:
    """Runs all that fits into the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu")
    parser.add_argument("--minutes", type=float, default=7.5, help="nothing new begins after that")
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu-check"), help="folder for the results")
    parser.add_argument("--wheels", type=Path, help="folder of wheels with what this Python lacks (make gpu-wheels)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        problem = _prepare(asked.wheels, Path(scratch))
        if problem:
            print(f"error: {problem}", file=sys.stderr)
            return 2
        return _check(asked, Path(scratch))


def _prepare(folder: Path | None, scratch: Path) -> str | None:
    """Takes the wheels; what still lacks, as a sentence."""
    if folder is not None:
        try:
            taken = wheels.unpack(folder, scratch / "wheels")
        except (OSError, ValueError) as error:
            return f"--wheels {error}"
        _tell(f"from wheels: {', '.join(taken) or 'nothing, for all is installed'}")
    places = [str(ROOT / "src"), str(scratch / "wheels"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(place for place in places if place)  # of the processes that it starts
    if lacking := wheels.lacking():
        return (
            f"this Python lacks {', '.join(lacking)}; collect them where there is a network (make gpu-wheels), then "
            "give their folder: --wheels FOLDER"
        )
    return None


def _check(asked: argparse.Namespace, scratch: Path) -> int:
    """All checks and speeds; 1 if a check failed."""
    began = time.monotonic()
    import torch

    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: torch sees no GPU here; --device cpu runs what a CPU can", file=sys.stderr)
        return 2
    from tests.gpu_check import checks, speeds

    os.environ["FIELDGUIDE_CACHE"] = str(scratch / "cache")
    where = checks.Where(torch.device(asked.device), scratch)
    results = {name: _run(name, check, where, began, asked.minutes) for name, check in checks.CHECKS.items()}
    measured = speeds.measure(where, lambda: asked.minutes * 60 - (time.monotonic() - began), _tell)
    found = {
        "machine": checks.machine(where.device),
        "checks": results,
        "speeds": measured,
        "seconds": time.monotonic() - began,
    }
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "gpu-check.json").write_text(json.dumps(found, indent=1) + "\n")
    text = _markdown(found)
    (asked.output / "gpu-check.md").write_text(text)
    print(text)
    return 1 if any(result["outcome"] == "failed" for result in results.values()) else 0


def _tell(text: str) -> None:
    print(text, flush=True)


def _run(name: str, check: Callable[[Any], str], where: Any, began: float, minutes: float) -> dict[str, Any]:
    """What a check found: `passed`, `failed` or `not run`, and why."""
    start = time.monotonic()
    if start - began > 60 * minutes:
        return {"outcome": "not run", "told": "out of time", "seconds": 0.0}
    try:
        outcome, told = "passed", check(where)
    except ModuleNotFoundError as error:
        outcome, told = "not run", f"needs {error.name}"
    except NotImplementedError as error:
        outcome, told = "not run", str(error)
    except Exception as error:  # whatever went wrong is the result
        traceback.print_exc()
        outcome, told = "failed", f"{type(error).__name__}: {str(error)[:300]}"
    seconds = time.monotonic() - start
    _tell(f"{name}: {outcome} ({told}; {seconds:.1f} s)")
    return {"outcome": outcome, "told": told, "seconds": seconds}


def _markdown(found: dict[str, Any]) -> str:
    machine = found["machine"]
    lines = [f"{machine['device_name']}, torch {machine['torch']}, {found['seconds']:.0f} s in all", ""]
    lines += ["| check | outcome | |", "| --- | --- | --- |"]
    lines += [f"| {name} | {each['outcome']} | {each['told']} |" for name, each in found["checks"].items()]
    if rows := found["speeds"]["rows"]:
        columns = list(rows[0])
        lines += ["", "Images/s at batch 64 unless the column says otherwise; empty: not run.", ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    lines += ["", *(f"- {remark}" for remark in found["speeds"]["remarks"])]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.1f}" if value >= 1 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
