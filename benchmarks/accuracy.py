"""Accuracy against minutes: fieldguide and its peers on the same photos, weights, split and machine.

Usage: python benchmarks/accuracy.py --photos PHOTOS --weights FILE [--minutes 1 2 5 15 40] [--seeds 0 1 2]
       python benchmarks/accuracy.py --suite FOLDER --photos PHOTOS --weights FILE [--shapes few digits] [--threads 1 2]
       python benchmarks/accuracy.py --results FILE --page docs/accuracy.md --plot docs/images/accuracy.png
The first form runs what is missing in --results, each run in its own process. You can interrupt it at any time; the
same command continues. The second does so for shapes of data made from PHOTOS (suite_shapes.py), with one thread and
with two; each shape and number of threads has its file in results/suite/. The last form runs nothing; it renders the
results, those of the suite with --suite. docs/accuracy.md describes the method.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import accuracy_methods as methods
import accuracy_suite
import side_by_side
from accuracy_methods import METHODS, Method
from accuracy_results import CALIBRATION_SEED, Cell, Results, look
from accuracy_run import add_options, read_once, run_once

CALIBRATION_TIMEOUT_SECONDS = 3600
MINUTES = (1.0, 2.0, 5.0, 15.0, 40.0)


def main() -> None:
    """Runs, or renders."""
    options = _options()
    if options.suite:
        accuracy_suite.main(options, _run_missing)
        return
    results = Results(options.results)
    if options.page or options.plot:
        import accuracy_page  # here, because only the second form needs matplotlib

        accuracy_page.render(results, options.page, options.plot)
        return
    if failed := _run_missing(options, results):
        print(f"{failed} runs failed; run the same command to try them again", file=sys.stderr)
        raise SystemExit(1)


def _run_missing(options: argparse.Namespace, results: Results) -> int:
    """Runs what the results lack; how many runs failed."""
    setting = {"backbone": options.backbone, "size": options.size, **look(options.photos, options.weights)}
    results.begin(setting)
    read_once(options.photos)
    common = ["--photos", str(options.photos.resolve()), "--weights", str(options.weights.resolve())]
    common += ["--backbone", options.backbone, "--size", str(options.size)]
    failed = 0
    for cell in plan([METHODS[name] for name in options.methods], options.minutes, options.seeds):
        if cell not in results.runs():
            failed += not _run(results, cell, common, options)
    return failed


def plan(chosen: Sequence[Method], minutes: Sequence[float], seeds: Sequence[int]) -> Iterator[Cell]:
    """Every run in its turn: seed by seed, the shorter minutes first, methods alternating, their order turned round in
    every second seed; those that end by themselves first of a seed."""
    for number, seed in enumerate(seeds):
        ordered = list(chosen) if number % 2 == 0 else list(reversed(chosen))
        yield from ((method.name, None, seed) for method in ordered if method.told == methods.END)
        for length in sorted(minutes):
            yield from ((method.name, float(length), seed) for method in ordered if method.told != methods.END)


def epochs_that_fit(minutes: float, calibration: Mapping[str, float]) -> int:
    """The number of epochs whose end is nearest to the given minutes, one at least.

    Args:
        minutes: of the whole process.
        calibration: `fixed_seconds` of a process beside its epochs, and `epoch_seconds` of one.
    """
    return max(1, round((60 * minutes - calibration["fixed_seconds"]) / calibration["epoch_seconds"]))


def _run(results: Results, cell: Cell, common: Sequence[str], options: argparse.Namespace) -> bool:
    """One run, and its line in the results; whether it came to its end."""
    name, minutes, seed = cell
    method, interpreter = METHODS[name], side_by_side.python(options.python)
    told = minutes
    label = f"{name}, {'to its end' if minutes is None else f'{minutes:g} minutes'}, seed {seed}"
    if method.told == methods.EPOCHS:
        calibration = results.calibration(name) or _calibrate(results, method, common, interpreter, options.prefix)
        if calibration is None:
            results.append(
                "failure", {"method": name, "minutes": minutes, "seed": seed, "why": _why_no_calibration(results, name)}
            )
            return False
        told = epochs_that_fit(minutes or 0, calibration)
        label += f", {told} epochs"
    print(f"{label} ...", file=sys.stderr, end=" ", flush=True)
    limit = options.timeout if minutes is None else int(60 * minutes * 2 + 600)
    command = methods.command(method, interpreter, common, seed, told)
    if options.keep and method.script == methods.OURS:
        place = name if minutes is None else f"{name}-{minutes:g}"
        command += ["--keep", str(options.keep.resolve() / f"{place}-{seed}")]
    values, failure = run_once([*options.prefix, *command], limit, results.setting)
    about = {"method": name, "minutes": minutes, "seed": seed}
    results.append("failure" if failure else "run", about | ({"why": failure} if failure else values))
    print(failure or f"{values['accuracy']:.4f} in {values['seconds_used'] / 60:.2f} minutes", file=sys.stderr)
    return not failure


def _calibrate(
    results: Results, method: Method, common: Sequence[str], interpreter: str, prefix: Sequence[str]
) -> Mapping[str, object] | None:
    """A run of one epoch that is not counted: what an epoch takes, and what the process takes beside it."""
    print(f"{method.name}, one epoch to calibrate ...", file=sys.stderr, end=" ", flush=True)
    command = methods.command(method, interpreter, common, CALIBRATION_SEED, 1)
    values, failure = run_once([*prefix, *command], CALIBRATION_TIMEOUT_SECONDS, results.setting)
    if failure:
        print(failure, file=sys.stderr)
        results.append("failure", {"method": method.name, "minutes": None, "seed": CALIBRATION_SEED, "why": failure})
        return None
    epoch = values["epoch_seconds"][-1]
    fixed = values["seconds_used"] - epoch
    print(f"{epoch:.1f} s an epoch, {fixed:.1f} s besides", file=sys.stderr)
    kept = {"epoch_seconds": epoch, "fixed_seconds": fixed, "other_cores": values["other_cores"]}
    results.append("calibration", {"method": method.name, **kept})
    return results.calibration(method.name)


def _why_no_calibration(results: Results, name: str) -> str:
    return results.failures().get((name, None, CALIBRATION_SEED), "its calibration failed")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "accuracy.jsonl")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD")
    parser.add_argument("--minutes", nargs="+", type=float)
    accuracy_suite.add_options(parser)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep fieldguide's runs in this folder")
    parser.add_argument("--timeout", type=int, default=14_400, metavar="SECONDS", help="for a run that ends by itself")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw accuracy against minutes; run nothing")
    options = parser.parse_args()
    options.methods = options.methods or (accuracy_suite.METHODS if options.suite else list(METHODS))
    options.minutes = options.minutes or (accuracy_suite.MINUTES if options.suite else MINUTES)
    options.prefix = []
    if not (options.page or options.plot) and not (options.photos and options.weights):
        parser.error("--photos and --weights are wanted to run; --page or --plot to render what was run")
    if min(options.minutes) <= 0:
        parser.error(f"--minutes {min(options.minutes):g}: more than 0")
    return options


if __name__ == "__main__":
    main()
