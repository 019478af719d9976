"""Compares two methods on the same photos, from one results file or from two files measured at different times.

Usage: python benchmarks/paired.py FILE METHOD OTHER_FILE OTHER_METHOD [--minutes 5] [--macro]
The files are those of accuracy.py or ablations.py. It runs nothing. docs/accuracy.md explains the difference A - B and
its interval.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import accuracy_scores as scores
from accuracy_results import Results

from fieldguide.evaluation.predictions import Predictions


def said(results: Results, method: str, minutes: float | None) -> Mapping[int, Predictions]:
    """What each seed of a method said.

    Raises:
        SystemExit: there is no such run.
    """
    photos, runs = results.setting["photos"], results.runs().items()
    found = {
        seed: scores.said(photos, line["predicted"])
        for (name, length, seed), line in runs
        if (name, length) == (method, minutes)
    }
    if not found:
        raise SystemExit(f"{results.path}: no run of {method}" + (f" at {minutes:g} minutes" if minutes else ""))
    return found


def main() -> None:
    """Prints the difference in points, its 95 % interval, and the exact test of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("file", Path), ("method", str), ("other_file", Path), ("other_method", str)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--minutes", type=float, help="minutes of both; default: runs that end by themselves")
    parser.add_argument("--macro", action="store_true", help="the mean of the classes' recalls")
    options = parser.parse_args()
    one, other = Results(options.file), Results(options.other_file)
    if one.setting["photos"] != other.setting["photos"]:
        raise SystemExit(f"{options.file} and {options.other_file} have different photos")
    pair = (said(one, options.method, options.minutes), said(other, options.other_method, options.minutes))
    found = scores.paired(*pair, macro=options.macro)
    low, high = (f"{100 * bound:+.1f}" for bound in (found.low, found.high))
    tests = ", ".join(f"{each.p_value:.2g}" for each in found.each.values())
    print(f"{100 * found.difference:+.1f} points ({low} to {high}); McNemar p of the accuracy, by seed: {tests}")


if __name__ == "__main__":
    main()
