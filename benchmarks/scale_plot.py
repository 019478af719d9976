"""Draws what `scale.py` has measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Seconds and peak memory against the number of photos, a line a stage; straight lines of seconds are powers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (seconds, memory) = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    stages = dict.fromkeys(row["stage"] for row in rows if row["stage"] != "imports")
    for place, stage in enumerate(stages):
        of_stage = sorted((row["photos"], row["seconds"], row["peak_mb"]) for row in rows if row["stage"] == stage)
        counts, times, _ = zip(*of_stage, strict=True)
        style = "-" if place < 10 else "--"
        seconds.plot(counts, times, marker="o", ms=4, color=f"C{place % 10}", ls=style, label=stage)
    for place, process in enumerate(dict.fromkeys(row["process"] for row in rows)):
        peaks = {row["photos"]: row["peak_mb"] / 1e3 for row in rows if row["process"] == process}
        if peaks:
            memory.plot(*zip(*sorted(peaks.items()), strict=True), marker="o", ms=4, color=f"C{place}", label=process)
    counts = sorted({row["photos"] for row in rows})
    least = min(row["seconds"] for row in rows if row["photos"] == counts[0] and row["stage"] != "imports")
    linear = [max(least, 0.05) * count / counts[0] for count in counts]
    seconds.plot(counts, linear, color="gray", lw=0.8, ls=":", label="linear")
    for axes, label, scale in ((seconds, "seconds", "log"), (memory, "peak memory of the process, GB", "linear")):
        axes.set(xscale="log", yscale=scale, xlabel="photos", ylabel=label)
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left" if axes is seconds else "lower right")
    memory.set_ylim(bottom=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    low, high = seconds.get_ylim()
    seconds.set_ylim(low, 20 * high)  # room for the legend
    figure.savefig(file, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
