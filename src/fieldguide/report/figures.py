"""Pictures: curves of a training, charts for a page, maps over photos. The only file that uses matplotlib."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator

from fieldguide.errors import shown_rate
from fieldguide.run_folder import RunFolder
from fieldguide.storage import write_bytes

TRAINING, VALIDATION, RATE, BORDER = "#8a6d3b", "#1f6f8b", "#5b5b5b", "#b5b5b5"
Epochs = Sequence[dict[str, Any]]
MOST_RATES = 4
MAP_STRENGTH = 0.65


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
        pictures[name] = _rendered(_draw(_with_neighbour(epochs, history), whole=False, own=epochs[0]), "png")
    for name, content in pictures.items():
        write_bytes(run.figures / name, content)
    return list(pictures)


def _with_neighbour(epochs: Epochs, history: Epochs) -> Epochs:
    """The epochs of a stage; of a single one, with the epoch before it, or after it: a point alone is no curve."""
    if len(epochs) > 1:
        return epochs
    place = [epoch["epoch"] for epoch in history].index(epochs[0]["epoch"])
    return history[place - 1 : place + 1] if place else history[:2]


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "stage"


def _rendered(figure: Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()


def _draw(epochs: Epochs, *, whole: bool, own: dict[str, Any] | None = None) -> Figure:
    """Both curves; of a single stage with `own`, its first epoch, in the title."""
    figure = Figure(figsize=(11, 4.6 if whole else 4.0), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2 if whole else 1, 2, height_ratios=[4, 1] if whole else None)
    panels = [(figure.add_subplot(grid[0, 0]), "loss", "cross-entropy (nats)")]
    panels.append((figure.add_subplot(grid[0, 1]), "accuracy", "accuracy"))
    for axes, key, label in panels:
        _curve(axes, epochs, key, label)
        _dress(axes, epochs, whole=whole)
    panels[1][0].legend(loc="best", frameon=False, fontsize=9)
    if whole:
        for column in range(2):
            _rate(figure.add_subplot(grid[1, column], sharex=panels[column][0]), epochs)
    else:
        first = own or epochs[0]
        label = first["stage"] if first["kind"] == "round" else f"phase {first['stage']}"
        figure.suptitle(f"{label}, from learning rate {shown_rate(first['learning_rate'])}", parse_math=False)
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
    if len({epoch["stage_number"] for epoch in epochs}) == 1 and not whole:
        return
    for i, epoch in enumerate(epochs):
        is_first = i == 0 or epochs[i - 1]["stage_number"] != epoch["stage_number"]
        if not is_first:
            continue
        if i:
            axes.axvline(epoch["epoch"] - 0.5, color=BORDER, linewidth=1)
        said = _annotate(axes, epoch["stage"], epoch["epoch"] - 0.42, RATE)
        said.set_in_layout(False)  # a name may be wider than its epochs
    axes.set_title(" ", fontsize=8)  # room for these names


def _annotate(axes: Axes, text: str, across: float, color: str) -> Annotation:
    """A name above the chart, as it is: between two dollars there is no formula."""
    place, units = (across, 1.0), ("data", "axes fraction")
    return axes.annotate(text, place, xycoords=units, parse_math=False, fontsize=8, color=color, va="bottom")


def _rate(axes: Axes, epochs: Epochs) -> None:
    rates = [epoch["learning_rate"] for epoch in epochs]
    axes.step([epoch["epoch"] for epoch in epochs], rates, where="mid", color=RATE)
    _scale_for_rates(axes, rates)
    axes.set_ylabel("rate", fontsize=8)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _scale_for_rates(axes: Axes, rates: Sequence[float]) -> None:
    """Logarithmic, with the rates themselves as ticks; of many, the lowest and the highest. A probe has none."""
    distinct = sorted(set(rates) - {0.0})
    if not distinct:
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    shown = distinct if len(distinct) <= MOST_RATES else [distinct[0], distinct[-1]]
    axes.set_yticks(shown, [shown_rate(rate) for rate in shown])
    axes.minorticks_off()


def overlay(photo: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A map over a photo: where nothing speaks for the class, the photo stands grey and dimmed.

    Takes (height, width, 3) uint8 and (height, width) in [0, 1]; returns the shape and type of the first.
    """
    strength = MAP_STRENGTH * heat[..., None]  # (height, width, 1)
    gray = photo.mean(axis=2, keepdims=True)
    color = 255 * colormaps["inferno"](0.2 + 0.6 * heat)[..., :3]
    mixed = (1 - strength) * 0.8 * gray + strength * color
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class LineStyle:
    """How a line looks: colour, dashes and marker as matplotlib writes them."""

    color: str
    dashes: str
    marker: str = "."


@dataclass(frozen=True)
class Panel:
    """One chart for a page; small, so that its text is legible on a phone."""

    figure: Figure
    axes: Axes

    def line(self, across: Sequence[float], values: Sequence[float], style: LineStyle) -> None:
        """A line through points."""
        self.axes.plot(across, values, style.dashes, color=style.color, marker=style.marker, markersize=5)

    def steps(self, across: Sequence[float], values: Sequence[float], color: str) -> None:
        """A line of steps, on a logarithmic scale."""
        self.axes.step(across, values, where="mid", color=color, marker=".")
        _scale_for_rates(self.axes, values)

    def ring(self, across: float, value: float, color: str) -> None:
        """A mark around one point."""
        self.axes.plot(across, value, "o", color=color, markersize=9, fillstyle="none", markeredgewidth=1.6)

    def boundary(self, across: float, text: str, color: str) -> None:
        """A vertical line with what begins there."""
        self.axes.axvline(across, color=color, linewidth=0.8, linestyle=(0, (4, 3)))
        _annotate(self.axes, text[:24], across, color)

    def bar(self, left: float, right: float, height: float, color: str) -> None:
        """A bar from `left` to `right`."""
        self.axes.bar(left, height, right - left, align="edge", color=color, linewidth=0)

    def stairs(self, heights: Sequence[float], color: str) -> None:
        """Bars of width 1 without gaps, however many there are."""
        self.axes.stairs(heights, color=color, fill=True)

    def intervals(
        self, across: Sequence[float], values: Sequence[float], bounds: Sequence[tuple[float, float]], color: str
    ) -> None:
        """Points with their intervals."""
        self.axes.vlines(across, [low for low, _ in bounds], [high for _, high in bounds], color=color, linewidth=1.2)
        self.axes.plot(across, values, "o", color=color, markersize=4.5)


def new_panel(ink: str, muted: str, across: str, up: str) -> Panel:
    """An empty chart with the names of its axes."""
    figure = Figure(figsize=(4.4, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across, color=muted, fontsize=9)
    axes.set_ylabel(up, color=muted, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8.5)
    axes.spines[["left", "bottom"]].set_color(muted)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, color=muted, linewidth=0.6)
    axes.set_axisbelow(True)
    return Panel(figure, axes)


def draw_axes(
    panel: Panel,
    *,
    whole_numbers: bool = False,
    limits: tuple[float, float] | None = None,
    across: tuple[float, float] | None = None,
) -> None:
    """Sets what the axes reach, after all is drawn."""
    if whole_numbers:
        panel.axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if limits is not None:
        panel.axes.set_ylim(*limits)
    if across is not None:
        panel.axes.set_xlim(*across)


def to_svg(panel: Panel, name: str) -> str:
    """A chart as SVG whose text stays text; the same content and name give the same bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        panel.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().decode("utf-8")
