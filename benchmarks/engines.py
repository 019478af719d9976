"""Images per second of each engine on random images, and how far its logits are from the plain engine's.

Usage: python benchmarks/engines.py [resnet18.tv_in1k resnet50.tv_in1k] [--batch 32] [--engines plain folded] [--short]
Weights are random, with batch statistics of their own. The engines take turns, call by call; each figure is the
median of its calls. `ready` is the time to build the engine and make the first call. `difference` is the largest of
any image's logits, in units of the range of its plain logits. `same label` is for random images, whose classes are
close calls.
"""

import argparse
import contextlib
import importlib.metadata
import sys
import time
from pathlib import Path

import side_by_side
import torch
from side_by_side import Contestant, Row

from fieldguide import world
from fieldguide.deploy.engines import Engine, Plain
from fieldguide.deploy.serving import OFFERS, relative_difference
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import Classifier, make_classifier

NUM_CLASSES = 100
COLUMNS = (("ready after, s", "ready_seconds", 1), ("difference", "difference", 4), ("same label", "same_label", 3))


def network(name: str, side: int, device: torch.device) -> Classifier:
    """With random weights, and the statistics that batches of noise give them."""
    torch.manual_seed(0)
    made = make_classifier(Architecture(name, "linear", None, 0.0, NUM_CLASSES)).to(device).train()
    with torch.no_grad():
        for _ in range(2):
            made(torch.randn(8, 3, side, side, device=device))
    return made.eval()


def time_of(engine: Engine, images: torch.Tensor) -> float:
    """Seconds of one call; an engine answers with an array, so it has waited for its device."""
    began = time.perf_counter()
    engine.compute(images)
    return time.perf_counter() - began


def measure(name: str, names: list[str], batch: int, side: int, calls: int, device: torch.device) -> list[Row]:
    """Prints a line an engine, and returns a row each."""
    classifier = network(name, side, device)
    images = torch.randn(batch, 3, side, side)
    expected = Plain(classifier, device).compute(images)
    rows: list[Row] = []
    engines, ready, answers = {"plain": Plain(classifier, device)}, {"plain": 0.0}, {"plain": expected}
    for other in names:
        if other == "plain":
            continue
        if problem := OFFERS[other].problem(device):
            rows.append(Row(Contestant(other, "", is_ours=True), failure=f"skipped: {problem}"))
            print(f"{name:<20} {other:<9} skipped: {problem}", file=sys.stderr)
            continue
        began = time.perf_counter()
        engines[other] = OFFERS[other].make(classifier, device, batch, side)
        answers[other] = engines[other].compute(images)
        ready[other] = time.perf_counter() - began
    seconds: dict[str, list[float]] = {other: [] for other in engines}
    for _ in range(calls + 1):
        for other, engine in engines.items():
            seconds[other].append(time_of(engine, images))
    for other, taken in seconds.items():
        figures = {
            "ready_seconds": ready[other],
            "difference": relative_difference(answers[other], expected),
            "same_label": float((answers[other].argmax(1) == expected.argmax(1)).mean()),
            "versions": versions(),
        }
        results = [{"images_per_second": batch / second, **figures} for second in taken[1:]]
        rows.append(Row(Contestant(other, "", is_ours=True), results))
        speed = rows[-1].median("images_per_second")
        print(f"{name:<20} {other:<9} batch {batch:<4} {speed:8.1f} images/s", file=sys.stderr)
    return rows


def versions() -> dict[str, str]:
    """Of what computes."""
    found = {}
    for library in ("fieldguide", "torch", "timm", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def main() -> None:
    """Prints and saves a table a network and batch size."""
    options = _options()
    device = world.choose_device(options.device)
    sections = []
    for name in options.backbones:
        for batch in options.batch:
            rows = measure(name, options.engines, batch, options.side, options.calls, device)
            lines = [*side_by_side.table(rows, "plain", COLUMNS), "", f"Calls: {options.calls} each, in turn."]
            heading = f"{name}, {options.side} px, batch {batch}, random images"
            sections.append((heading, lines, rows))
    command = ["python", "benchmarks/engines.py", *sys.argv[1:]]
    side_by_side.save(options.output, "Engines", sections, command)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="*")
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--calls", type=int)
    parser.add_argument("--engines", nargs="+", choices=["plain", *OFFERS])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, metavar="STEM", help="STEM.md and STEM.json are written")
    parser.add_argument("--short", action="store_true", help="only ResNet-18, without `compiled`: 30 seconds")
    options = parser.parse_args()
    short = options.short
    options.backbones = options.backbones or (
        ["resnet18.tv_in1k"] if short else ["resnet18.tv_in1k", "resnet50.tv_in1k"]
    )
    options.engines = options.engines or ["plain", *(name for name in OFFERS if not short or name != "compiled")]
    options.calls = options.calls or (3 if short else 10)
    options.output = options.output or side_by_side.HERE / "results" / ("engines-short" if short else "engines")
    return options


if __name__ == "__main__":
    main()
