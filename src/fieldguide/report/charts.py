"""Charts in the colours of their page, so that they are legible in light, dark and print."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fieldguide.report.figures import LineStyle, draw_axes, new_panel, to_svg

Epochs = Sequence[dict[str, Any]]
Limits = tuple[float, float]

# The colours of a chart, and the page's variables that replace them.
INK, MUTED, TRAINING, VALIDATION, FAINT = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "--ink", MUTED: "--muted", TRAINING: "--training", VALIDATION: "--validation", FAINT: "--faint"}
LABELS = {"loss": "loss (cross-entropy, nats)", "accuracy": "accuracy"}


def curve(epochs: Epochs, key: str, name: str, limits: Limits | None = None, most_epochs: int | None = None) -> Markup:
    """Training and validation over the epochs, with a line where a phase or round begins.

    Args:
        epochs: lines of a run's history.
        key: `loss` or `accuracy`.
        name: of the chart, unique in its page.
        limits: of the vertical axis, to compare several runs; None: those of the data.
        most_epochs: end of the horizontal axis, likewise; None: that of the data.
    """
    panel = new_panel(INK, MUTED, "epoch", LABELS[key])
    numbers = [epoch["epoch"] for epoch in epochs]
    for part, style in (("training", LineStyle(TRAINING, "--")), ("validation", LineStyle(VALIDATION, "-"))):
        panel.line(numbers, [epoch[part][key] for epoch in epochs], style)
    starts = _starts(epochs)
    for number, stage in starts if len(starts) > 1 else ():
        panel.boundary(number - 0.5, stage, MUTED)
    best = [epoch for epoch in epochs if epoch["best"]]
    if best:
        panel.ring(best[-1]["epoch"], best[-1]["validation"][key], VALIDATION)
    across = None if most_epochs is None else (0.3, most_epochs + 0.3)
    draw_axes(panel, whole_numbers=True, limits=limits, across=across)
    return _for_page(to_svg(panel, name), name, f"{key} of training and validation over {len(epochs)} epochs")


def rates(epochs: Epochs, name: str) -> Markup:
    """The learning rate over the epochs."""
    panel = new_panel(INK, MUTED, "epoch", "learning rate")
    panel.steps([epoch["epoch"] for epoch in epochs], [epoch["learning_rate"] for epoch in epochs], INK)
    draw_axes(panel, whole_numbers=True)
    return _for_page(to_svg(panel, name), name, "learning rate over the epochs")


def reliability(rows: Sequence[Mapping[str, Any]], name: str) -> Markup:
    """Accuracy against confidence, one point per bin with its interval; bars are the bin's share of the photos."""
    panel = new_panel(INK, MUTED, "confidence", "accuracy")
    filled = [row for row in rows if row["images"]]
    total = sum(row["images"] for row in filled)
    for row in filled:
        panel.bar(row["above"], row["up_to"], row["images"] / total, FAINT)
    panel.line([0, 1], [0, 1], LineStyle(MUTED, ":", marker=""))
    panel.intervals(
        [row["confidence"] for row in filled],
        [row["accuracy"] for row in filled],
        [(row["accuracy_low"], row["accuracy_high"]) for row in filled],
        VALIDATION,
    )
    draw_axes(panel, limits=(0, 1.03), across=(0, 1.03))
    return _for_page(to_svg(panel, name), name, "reliability diagram: accuracy against confidence")


def coverage(curve_: Mapping[str, Sequence[float]], name: str) -> Markup:
    """Accuracy among the answered photos, against their share."""
    panel = new_panel(INK, MUTED, "share of photos answered, most confident first", "accuracy among them")
    panel.line(curve_["coverage"], curve_["accuracy"], LineStyle(VALIDATION, "-", marker=""))
    lowest = min(curve_["accuracy"])
    draw_axes(panel, limits=(max(0.0, lowest - 0.05), 1.01), across=(0, 1.03))
    return _for_page(to_svg(panel, name), name, "accuracy against coverage")


def class_sizes(counts: Sequence[int], name: str) -> Markup:
    """Training photos per class, largest first."""
    panel = new_panel(INK, MUTED, "classes, largest first", "training photos")
    panel.stairs(sorted(counts, reverse=True), TRAINING)
    draw_axes(panel, limits=(0, max(counts) * 1.05), across=(0, len(counts)))
    return _for_page(to_svg(panel, name), name, "training photos of each class")


def limits_of(histories: Sequence[Epochs], key: str) -> Limits:
    """Limits that hold all curves of several runs."""
    values = [epoch[part][key] for epochs in histories for epoch in epochs for part in ("training", "validation")]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low or 1)
    return low - margin, high + margin


def _starts(epochs: Epochs) -> list[tuple[int, str]]:
    """The first epoch of each phase or round, with its name."""
    starts: dict[int, tuple[int, str]] = {}
    for epoch in epochs:
        starts.setdefault(epoch["stage_number"], (epoch["epoch"], str(epoch["stage"])))
    return list(starts.values())


def _for_page(svg: str, name: str, label: str) -> Markup:
    """matplotlib's SVG as part of a page: the page's colours and font, and ids that no other chart has.

    matplotlib escapes all text in it; `label` is ours.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*_\d+">', "<g>", svg)  # nothing refers to these names
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    size = r'<svg [^>]*viewBox="([^"]*)"[^>]*>'
    head = (
        rf'<svg class="chart" role="img" aria-label="{label}" viewBox="\1" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(re.sub(size, head, svg, count=1))
