"""Curves of a training. The only one that knows matplotlib."""

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_bytes

TRAINING, VALIDATION, RATE, BORDER = "#8a6d3b", "#1f6f8b", "#5b5b5b", "#b5b5b5"
Epochs = Sequence[dict[str, Any]]


def draw_curves(run: RunFolder) -> list[str]:
    """Draws the whole run (`curves.png`, `curves.svg`) and each phase and round (`01-standard.png`, ...).

    Returns:
        The names of the files in `figures/`.

    Raises:
        UsageError: the run has no history.
    """
    history = run.read_history()
    run.figures.mkdir(exist_ok=True)
    stages: dict[int, list[dict[str, Any]]] = {}
    for epoch in history:
        stages.setdefault(epoch["stage_number"], []).append(epoch)
    whole = _draw(history, whole=True)
    pictures = {"curves.png": _rendered(whole, "png"), "curves.svg": _rendered(whole, "svg")}
    for number, epochs in stages.items():
        name = f"{number:02d}-{_plain(epochs[0]['stage'])}.png"
        pictures[name] = _rendered(_draw(epochs, whole=False), "png")
    for name, content in pictures.items():
        write_bytes(run.figures / name, content)
    return list(pictures)


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "stage"


def _rendered(figure: Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()


def _draw(epochs: Epochs, *, whole: bool) -> Figure:
    figure = Figure(figsize=(11, 4.6 if whole else 4.0), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2 if whole else 1, 2, height_ratios=[4, 1] if whole else None)
    panels = [(figure.add_subplot(grid[0, 0]), "loss", "cross-entropy (nats)")]
    panels.append((figure.add_subplot(grid[0, 1]), "accuracy", "accuracy"))
    for axes, key, label in panels:
        _curve(axes, epochs, key, label)
        _dress(axes, epochs, whole=whole)
    panels[1][0].legend(loc="lower right", frameon=False)
    if whole:
        for column in range(2):
            _rate(figure.add_subplot(grid[1, column], sharex=panels[column][0]), epochs)
    else:
        first = epochs[0]
        figure.suptitle(f"{first['kind']} {first['stage']}, from learning rate {first['learning_rate']:g}".strip())
    return figure


def _curve(axes: Axes, epochs: Epochs, key: str, label: str) -> None:
    numbers = [epoch["epoch"] for epoch in epochs]
    for part, color, style in (("training", TRAINING, "--"), ("validation", VALIDATION, "-")):
        values = [epoch[part][key] for epoch in epochs]
        name = "training (augmented, with dropout)" if part == "training" else "validation"
        axes.plot(numbers, values, style, color=color, marker=".", label=name)
    best = [epoch for epoch in epochs if epoch["best"]]
    if best:
        chosen = best[-1]
        axes.plot(chosen["epoch"], chosen["validation"][key], "o", color=VALIDATION, ms=8, label="best of these epochs")
    axes.set_ylabel(label)


def _dress(axes: Axes, epochs: Epochs, *, whole: bool) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(epochs[0]["epoch"] - 0.5, epochs[-1]["epoch"] + 0.5)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if not whole:
        axes.set_xlabel("epoch")
        return
    for i, epoch in enumerate(epochs):
        is_first = i == 0 or epochs[i - 1]["stage_number"] != epoch["stage_number"]
        if not is_first:
            continue
        if i:
            axes.axvline(epoch["epoch"] - 0.5, color=BORDER, linewidth=1)
        place = (epoch["epoch"] - 0.42, 1.0)
        said = axes.annotate(epoch["stage"], place, xycoords=("data", "axes fraction"), fontsize=8, color=RATE)
        said.set_in_layout(False)  # a name may be longer than its epochs are wide


def _rate(axes: Axes, epochs: Epochs) -> None:
    axes.step([e["epoch"] for e in epochs], [e["learning_rate"] for e in epochs], where="mid", color=RATE)
    axes.set_yscale("log")
    axes.set_ylabel("rate", fontsize=8)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
