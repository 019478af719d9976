"""`accuracy.py --suite`: shapes of data, with one thread and with two, and one table of them all."""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import accuracy_page as page
import accuracy_scores as scores
import side_by_side
import suite_shapes
from accuracy_results import Results

BEGIN, END = "<!-- suite: begin -->", "<!-- suite: end -->"
METHODS, MINUTES = ["auto", "timm", "fastai"], [1.0, 2.0, 5.0, 15.0]
PEERS = METHODS[1:]
RESULTS = side_by_side.HERE / "results" / "suite"
LATE_SHARE, LATE_SECONDS = 0.05, 10.0  # by which a run may end after its minutes


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only the suite takes."""
    parser.add_argument("--suite", type=Path, metavar="FOLDER", help="run the shapes of data, made in this folder")
    shapes = list(suite_shapes.SHAPES)
    parser.add_argument("--shapes", nargs="+", choices=shapes, default=shapes, metavar="SHAPE", help="of the suite")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the suite: cores that a run may use")
    parser.add_argument("--suite-results", type=Path, default=RESULTS, metavar="FOLDER", help="of the suite")


def main(options: argparse.Namespace, run_missing: Callable[[argparse.Namespace, Results], int]) -> None:
    """Runs what is missing, or renders what is there."""
    if options.page:
        page.replace_measured(options.page, BEGIN, END, measured(options.suite_results))
        print(f"{options.page}: the suite's results written")
        return
    failed = 0
    for name in options.shapes:
        folder = suite_shapes.make(name, options.photos, options.suite)
        for threads in options.threads:
            own = copy.copy(options)
            own.photos, own.size = folder, suite_shapes.SHAPES[name].size or options.size
            own.prefix = ["taskset", "-c", ",".join(map(str, range(threads)))]
            print(f"{name}, {threads} threads", file=sys.stderr)
            failed += run_missing(own, Results(options.suite_results / f"{name}-{threads}.jsonl"))
    if failed:
        print(f"{failed} runs failed; run the same command to try them again", file=sys.stderr)
        raise SystemExit(1)


@dataclass(frozen=True)
class Row:
    """fieldguide on a shape, with so many threads and minutes.

    Attributes:
        late: seconds after its minutes, of the run that ended last.
        against: of each peer in the same minutes: its accuracy, its minutes, and the difference.
        before: the difference to fewer minutes.
    """

    shape: str
    threads: int
    minutes: float
    accuracy: float
    late: float
    against: dict[str, tuple[float, float, scores.Paired]]
    before: scores.Paired | None

    @property
    def is_in_time(self) -> bool:
        """Whether each run kept its minutes."""
        return self.late <= LATE_SHARE * 60 * self.minutes + LATE_SECONDS

    def faults(self) -> Iterator[str]:
        """What must not be."""
        if not self.is_in_time:
            yield "late"
        for name, (_, minutes, found) in self.against.items():
            kept = minutes <= (1 + LATE_SHARE) * self.minutes + LATE_SECONDS / 60
            if kept and found.verdict == "worse":
                yield f"behind {name}"
        if self.before is not None and self.before.verdict == "worse":
            yield "worse than with fewer minutes"


def rows(folder: Path) -> Iterator[Row]:
    """Every cell that has a run of fieldguide."""
    for name in suite_shapes.SHAPES:
        for file in sorted(folder.glob(f"{name}-[0-9]*.jsonl")):
            results = Results(file)
            said, runs = page.predictions(results), results.runs()
            lengths = sorted(minutes for method, minutes in said if method == "auto" and minutes is not None)
            for place, minutes in enumerate(lengths):
                ours = said["auto", minutes]
                used = [runs["auto", minutes, seed]["seconds_used"] for seed in ours]
                against = {}
                for peer in PEERS:
                    if theirs := said.get((peer, minutes)):
                        taken = max(runs[peer, minutes, seed]["seconds_used"] for seed in theirs) / 60
                        against[peer] = (scores.score(theirs).mean, taken, scores.paired(ours, theirs))
                before = scores.paired(ours, said["auto", lengths[place - 1]]) if place else None
                threads = int(file.stem.rpartition("-")[2])
                accuracy = scores.score(ours).mean
                yield Row(name, threads, minutes, accuracy, max(used) - 60 * minutes, against, before)


def measured(folder: Path) -> list[str]:
    """The page's part: a row a cell, and what must not be.

    Raises:
        SystemExit: there is no result.
    """
    found = list(rows(folder))
    if not found:
        raise SystemExit(f"{folder}: no finished runs")
    lines = [
        "| photos | threads | minutes | `auto` | ended | timm | fastai | |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for row in found:
        peers = [_peer(row, name) for name in PEERS]
        cells = [row.shape, str(row.threads), f"{row.minutes:g}", f"{row.accuracy:.4f}", f"{row.late:+.0f} s"]
        good = "holds" if row.against else "in time, no peer"
        lines.append(f"| {' | '.join([*cells, *peers, ', '.join(row.faults()) or good])} |")
    beside, alone = ([row for row in found if bool(row.against) is has] for has in (True, False))
    held, in_time = (sum(not list(row.faults()) for row in rows) for rows in (beside, alone))
    shapes = [f"- `{name}`: {suite_shapes.SHAPES[name].reason}." for name in _named(found)]
    told = (
        f"{held} of {len(beside)} cells with a peer hold: ended in time, not shown to be behind a peer that kept its "
        f"minutes, nor to be worse than with fewer minutes. Of {len(alone)} without a peer, {in_time} ended in time "
        "and are not shown to be worse than with fewer minutes. Behind a peer's accuracy: its minutes, and the "
        "difference in points with 95 %."
    )
    return [*shapes, "", *lines, "", told]


def _named(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.shape for row in found))


def _peer(row: Row, name: str) -> str:
    if name not in row.against:
        return "not run"
    accuracy, minutes, found = row.against[name]
    difference = f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return f"{accuracy:.4f} in {minutes:.2f}; {difference}"
