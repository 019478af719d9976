"""The results of `accuracy.py` as the measured part of docs/accuracy.md and as a plot; runs nothing."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import accuracy_scores as scores
import side_by_side
from accuracy_methods import METHODS, PEERS, REPORTS
from accuracy_results import Line, Results

from fieldguide.evaluation.comparison import p_text
from fieldguide.evaluation.predictions import Predictions

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TICKS = (0.5, 1, 2, 5, 10, 15, 20, 40, 80, 160, 320)  # minutes
Row = tuple[str, float | None]  # method, minutes
Said = dict[Row, dict[int, Predictions]]


def render(results: Results, page: Path | None, plot: Path | None) -> None:
    """Replaces what stands between the page's two marks, draws the plot.

    Raises:
        SystemExit: there are no runs, or the page lacks the marks.
    """
    if not results.runs():
        raise SystemExit(f"{results.path}: no finished runs")
    if plot:
        draw(results, plot)
        print(f"{plot}: drawn")
    if page:
        image = ["![Accuracy against minutes](images/accuracy.png)", ""] if plot else []
        replace_measured(page, BEGIN, END, [*image, *measured(results)])
        print(f"{page}: results written")


def replace_measured(page: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Puts lines in place of what stands between two marks of a page.

    Raises:
        SystemExit: the page lacks them.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"{page}: must contain the marks {begin} and {end}, once each")
    before, rest = text.split(begin)
    page.write_text(before + "\n".join([begin, "", *lines, "", end]) + rest.split(end)[1], encoding="utf-8")


def measured(results: Results) -> list[str]:
    """The page's measured part: the setting, a row a method and minutes, the paired tests."""
    said = predictions(results)
    return [
        *_setting(results),
        "",
        "### Accuracy on validation",
        "",
        *_table(results, said),
        "",
        "### Paired, on the same photos",
        "",
        *_comparisons(said),
    ]


def predictions(results: Results) -> Said:
    """Every row's predictions by seed, in the page's order."""
    photos = results.setting["photos"]
    found: Said = {}
    order = {name: place for place, name in enumerate(METHODS)}
    for (method, minutes, seed), line in sorted(
        results.runs().items(), key=lambda item: (order[item[0][0]], item[0][1] or 0.0, item[0][2])
    ):
        found.setdefault((method, minutes), {})[seed] = scores.said(photos, line["predicted"])
    return found


def _setting(results: Results) -> list[str]:
    setting, runs = results.setting, list(results.runs().values())
    photos = setting["photos"]
    about, versions = runs[-1]["machine"], {}
    for run in runs:
        versions |= run["versions"]
    dates, commits = ({run["machine"][name] for run in runs} for name in ("date", "commit"))
    processors = {run["machine"]["processor"] for run in runs}
    lines = [
        f"{setting['backbone']} from `{setting['weights']}` (sha256 `{setting['weights_sha256'][:12]}`), "
        f"{setting['size']} px; {photos['train']:,} photos to train on, {len(photos['files']):,} to judge by, "
        f"{len(set(photos['classes']))} classes.  ",
        f"{', '.join(sorted(processors))}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}; "
        f"{', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.  ",
        f"{days(dates)}, {', '.join(sorted(commits))}.",
    ]
    if disturbed := [run for run in runs if (run["other_cores"] or 0) >= side_by_side.TOLERATED_CORES]:
        named = "; ".join(
            f"{_name((run['method'], run['minutes']))}, seed {run['seed']} ({run['other_cores']:.2f})"
            for run in disturbed
        )
        lines += [
            "",
            f"**Disturbed**: in {len(disturbed)} of {len(runs)} runs other processes kept "
            f"{side_by_side.TOLERATED_CORES} cores or more busy: {named}. Such a run took too long, and where the "
            "clock decides how much is trained it reached too little.",
        ]
    return lines


def days(dates: Iterable[str]) -> str:
    """The first and the last of them, or the only one."""
    return " to ".join(sorted({min(dates), max(dates)}))


def _table(results: Results, said: Said) -> list[str]:
    lines = [
        "| method | minutes | really used | epochs | each seed | mean | 95 % |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    runs, notes = results.runs(), []
    for (method, minutes), seeds in said.items():
        found = scores.score(seeds)
        each = [runs[method, minutes, seed] for seed in found.seeds]
        cells = [
            METHODS[method].title,
            "to its end" if minutes is None else f"{minutes:g}",
            _range([run["seconds_used"] / 60 for run in each], "{:.2f}"),
            _range([run["epochs"] for run in each], "{:.0f}"),
            ", ".join(f"{accuracy:.4f}" for accuracy in found.accuracies),
            f"**{found.mean:.4f}**",
            f"{found.low:.4f} to {found.high:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    reasons: dict[tuple[str, str], int] = {}
    for (method, _, _), why in results.failures().items():
        reasons[method, why] = reasons.get((method, why), 0) + 1
    for (method, why), times in reasons.items():
        notes += ["", f"{METHODS[method].title}: {times} not run. {why}."]
    return lines + notes


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    middle = form.format(statistics.fmean(values))
    return low if low == high else f"{middle} ({low} to {high})"


def _comparisons(said: Said) -> list[str]:
    pairs: dict[str, list[tuple[Row, Row]]] = {"auto, each step against the one before": [], "auto against a peer": []}
    ours = [row for row in said if row[0] == "auto"]
    pairs["auto, each step against the one before"] = list(zip(ours[1:], ours, strict=False))
    pairs["auto against the report's method at its end"] = [
        (row, (name, None)) for row in ours for name in REPORTS if (name, None) in said
    ]
    pairs["auto against a peer"] = [(row, (name, row[1])) for row in ours for name in PEERS if (name, row[1]) in said]
    lines = [
        "| A | B | A - B, points | 95 % | A is | McNemar p, each seed |",
        "| --- | --- | ---: | --- | --- | --- |",
    ]
    for those in pairs.values():
        for a, b in those:
            found = scores.paired(said[a], said[b])
            tests = ", ".join(p_text(one.p_value) for one in found.each.values())
            cells = [
                _name(a),
                _name(b),
                f"{100 * found.difference:+.1f}",
                f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
                {"better": "**better**", "worse": "**worse**", "not shown": "not shown to differ"}[found.verdict],
                tests,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines if len(lines) > 2 else ["Nothing to pair yet."]


def _name(row: Row) -> str:
    method, minutes = row
    return f"{METHODS[method].title}, {'at its end' if minutes is None else f'{minutes:g} min'}"


def draw(results: Results, file: Path) -> None:
    """Accuracy against the minutes really used: a line a method through the means, a point a seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_method: dict[str, dict[float | None, list[Line]]] = {}
    for (method, minutes, _), line in results.runs().items():
        by_method.setdefault(method, {}).setdefault(minutes, []).append(line)
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for place, method in enumerate(METHODS):
        if method not in by_method:
            continue
        colour = f"C{place}"
        points = [(line["seconds_used"] / 60, line["accuracy"]) for some in by_method[method].values() for line in some]
        axes.scatter(*zip(*points, strict=True), s=14, color=colour, alpha=0.6, linewidths=0)
        means = sorted(_mean_point(some) for some in by_method[method].values())
        marker = "D" if method in REPORTS else "o"
        line_width = 2.5 if method == "auto" else 1.3
        label = METHODS[method].title.replace("`", "")
        axes.plot(*zip(*means, strict=True), color=colour, marker=marker, lw=line_width, ms=5, label=label)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="minutes by the wall, start-up included", ylabel="accuracy on validation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def _mean_point(lines: Sequence[Mapping[str, object]]) -> tuple[float, float]:
    minutes = statistics.fmean(line["seconds_used"] / 60 for line in lines)
    return minutes, statistics.fmean(line["accuracy"] for line in lines)
