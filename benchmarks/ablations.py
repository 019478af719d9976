"""What each part of recipe `auto` is worth: the same training with one part removed, changed or added.

Usage: python benchmarks/ablations.py --photos PHOTOS --weights FILE [--parts ema cutmix ...] [--seeds 0 1 2]
       python benchmarks/ablations.py --results FILE --page EXPERIMENTS.md
The training is ablations.yaml: what `auto` plans, with a fixed number of epochs, so a part that costs time shows it in
its minutes. A row is the paired difference to that training, on the same validation photos, over all seeds that both
have. The log loss uses the run's temperature and shows small differences sooner than accuracy. Parts that aim at macro
accuracy (the mean of the classes' recalls) have a second row for it.
The first form runs what is missing in --results, one part after the other. You can interrupt it and run it again. The
second form runs nothing. No run has a time limit, so --at-once may run several side by side, each on its share of the
cores; the minutes in the table are those of such a share.
"""

import argparse
import os
import queue
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import accuracy_scores as scores
import side_by_side
from ablations_parts import BASE, PARTS
from accuracy_page import days, replace_measured
from accuracy_results import Line, Results, look
from accuracy_run import add_options, read_once, run_once

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"  # around the table of a file of results, by its name
SCRIPT = side_by_side.HERE / "peers" / "accuracy_fieldguide.py"
RECIPE = side_by_side.HERE / "ablations.yaml"
HEAD = (
    "| what | in `auto` | seeds | {} | to the training itself, points | 95 % | | log loss | minutes |\n"
    "| --- | --- | ---: | ---: | ---: | --- | --- | ---: | ---: |"
)
Ran = tuple[Line, str]  # what a run came to, or why it failed


def main() -> None:
    """Runs, or renders."""
    options = _options()
    results = Results(options.results)
    if options.page:
        begin, end = (mark.format(options.results.stem) for mark in (BEGIN, END))
        replace_measured(options.page, begin, end, table(results))
        print(f"{options.page}: table written")
        return
    setting = {name: getattr(options, name) for name in ("backbone", "size", "epochs", "at_once")}
    results.begin(setting | look(options.photos, options.weights))
    read_once(options.photos)
    names, done, failed = dict.fromkeys([BASE, *options.parts]), results.runs(), 0
    missing = [(name, seed) for name in names for seed in options.seeds if (name, None, seed) not in done]
    for (name, seed), (values, failure) in _at_once(missing, options, results.setting):
        about = {"method": name, "minutes": None, "seed": seed}
        results.append("failure" if failure else "run", about | ({"why": failure} if failure else values))
        told = failure or f"{values['accuracy']:.4f} in {values['seconds_used'] / 60:.2f} minutes"
        print(f"{name}, seed {seed}: {told}", file=sys.stderr)
        failed += bool(failure)
    if failed:
        print(f"{failed} runs failed; run the same command to try them again", file=sys.stderr)
        raise SystemExit(1)


def _at_once(
    missing: Iterable[tuple[str, int]], options: argparse.Namespace, setting: Line
) -> Iterator[tuple[tuple[str, int], Ran]]:
    """What each training came to, as it ends."""
    pool = ThreadPoolExecutor(options.at_once, initializer=_shares(options.at_once))
    begun = {pool.submit(_run, name, seed, options, setting): (name, seed) for name, seed in missing}
    try:
        for ended in as_completed(begun):
            yield begun[ended], ended.result()
    except KeyboardInterrupt:
        print("waiting for the runs in progress, which will not count", file=sys.stderr)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _shares(at_once: int) -> Callable[[], None]:
    """Gives each thread that calls it its own share of the cores, and with it to what the thread starts."""
    if at_once == 1:
        return lambda: None
    cores = sorted(os.sched_getaffinity(0))
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    for place in range(at_once):
        shares.put(set(cores[place::at_once]))
    return lambda: os.sched_setaffinity(0, shares.get())


def _run(name: str, seed: int, options: argparse.Namespace, setting: Line) -> Ran:
    """One training."""
    print(f"{name}, seed {seed} ...", file=sys.stderr)
    command = [side_by_side.python(options.python), str(SCRIPT), "--photos", str(options.photos.resolve())]
    command += ["--weights", str(options.weights.resolve()), "--backbone", options.backbone]
    command += ["--size", str(options.size), "--seed", str(seed), "--recipe", str(RECIPE)]
    for field in PARTS[name].fields(options.epochs, options.size):
        command += ["--set", field]
    return run_once(command, options.timeout, setting)


def table(results: Results) -> list[str]:
    """The setting, and a row a part."""
    setting, photos = results.setting, results.setting["photos"]
    runs: dict[str, dict[int, Line]] = {}
    for (name, _, seed), line in results.runs().items():
        runs.setdefault(name, {})[seed] = line
    if BASE not in runs:
        raise SystemExit(f"{results.path}: no run of the unchanged training")
    every = [line for lines in runs.values() for line in lines.values()]
    machines = sorted({f"{line['machine']['processor']}, {line['machine']['cores']} cores" for line in every})
    dates, commits = ({line["machine"][name] for line in every} for name in ("date", "commit"))
    together = f", {setting['at_once']} at a time on a share of them each" if setting["at_once"] > 1 else ""
    lines = [
        f"{setting['backbone']} from `{setting['weights']}`, {setting['size']} px, {setting['epochs']} epochs after "
        f"the probe; {photos['train']:,} photos to train on, n = {len(photos['files']):,} of validation; "
        f"{'; '.join(machines)}{together}; {days(dates)}, {', '.join(sorted(commits))}.",
        "",
        HEAD.format("accuracy"),
    ]
    lines += [_row(name, runs, photos) for name in PARTS if name in runs]
    if judged := [name for name in PARTS if name in runs and PARTS[name].for_macro]:
        lines += ["", HEAD.format("macro accuracy")]
        lines += [_row(name, runs, photos, macro=True) for name in (BASE, *judged)]
    for (name, _, seed), why in results.failures().items():
        lines += ["", f"{PARTS[name].title}, seed {seed}: not run. {why}."]
    return lines


def _row(
    name: str, runs: Mapping[str, Mapping[int, Line]], photos: Mapping[str, Sequence[str]], *, macro: bool = False
) -> str:
    said = {
        method: {seed: scores.said(photos, line["predicted"]) for seed, line in runs[method].items()}
        for method in (name, BASE)
    }
    own = runs[name].values()
    mean = scores.macro_accuracy(said[name]) if macro else statistics.fmean(line["accuracy"] for line in own)
    minutes = statistics.fmean(line["seconds_used"] for line in own) / 60
    cells = [PARTS[name].title, "yes" if name == BASE else PARTS[name].auto_has, str(len(own)), f"{mean:.4f}"]
    shared = sorted(runs[name].keys() & runs[BASE].keys())
    if name == BASE or not shared:
        cells += ["", "", ""]
    else:
        found = scores.paired(*({seed: said[some][seed] for seed in shared} for some in (name, BASE)), macro=macro)
        verdict = {"better": "**better**", "worse": "**worse**", "not shown": "not shown to differ"}[found.verdict]
        cells += [f"{100 * found.difference:+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}", verdict]
    loss = statistics.fmean(line["validation_log_loss"] for line in own)
    return f"| {' | '.join([*cells, f'{loss:.4f}', f'{minutes:.2f}'])} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "ablations.jsonl")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of gradient steps, at least 2")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs side by side; at least one core each")
    parser.add_argument("--timeout", type=int, default=7_200, metavar="SECONDS", help="time limit for one run")
    options = parser.parse_args()
    if not options.page and not (options.photos and options.weights):
        parser.error("--photos and --weights are wanted to run; --page to render what was run")
    cores = len(os.sched_getaffinity(0)) if options.at_once > 1 else 1
    if not 1 <= options.at_once <= cores:
        parser.error(f"--at-once {options.at_once}: from 1 to the number of cores, which is {cores} here")
    if options.epochs < 2:
        parser.error(f"--epochs {options.epochs}: 2 or more")
    return options


if __name__ == "__main__":
    main()
