"""How many images a second each engine computes here, on random images, and how far it is from the plain one.

Usage: python benchmarks/engines.py resnet18.tv_in1k resnet50.tv_in1k --batch 32 --calls 5 --engines plain folded
Random weights with batch statistics of their own. The engines take turns, call by call, and each figure is the median
of its calls; `ready` is what building and the first call took. `difference` is the largest of any image's logits, in
units of the range of its plain logits; `same label` is of random images, whose classes are close calls.
"""

import argparse
import statistics
import time

import torch

from fieldguide import world
from fieldguide.deploy.engines import Engine, plain
from fieldguide.deploy.serving import OFFERS, relative_difference
from fieldguide.model.classifier import Architecture, Classifier, make_classifier

NUM_CLASSES = 100


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
    engine(images)
    return time.perf_counter() - began


def measure(name: str, names: list[str], batch: int, side: int, calls: int, device: torch.device) -> None:
    """Prints a line an engine."""
    classifier = network(name, side, device)
    images = torch.randn(batch, 3, side, side)
    expected = plain(classifier, device)(images)
    engines, ready, answers = {"plain": plain(classifier, device)}, {"plain": 0.0}, {"plain": expected}
    for other in names:
        if other == "plain":
            continue
        if problem := OFFERS[other].problem(device):
            print(f"{name:<20} {other:<9} left out: {problem}")
            continue
        began = time.perf_counter()
        engines[other] = OFFERS[other].make(classifier, device, batch, side)
        answers[other] = engines[other](images)
        ready[other] = time.perf_counter() - began
    seconds: dict[str, list[float]] = {other: [] for other in engines}
    for _ in range(calls + 1):
        for other, engine in engines.items():
            seconds[other].append(time_of(engine, images))
    for other, taken in seconds.items():
        same = (answers[other].argmax(1) == expected.argmax(1)).mean()
        print(
            f"{name:<20} {other:<9} batch {batch:<4} {batch / statistics.median(taken[1:]):8.1f} images/s  "
            f"ready {ready[other]:5.1f} s  difference {relative_difference(answers[other], expected):.4f}  "
            f"same label {same:.3f}",
            flush=True,
        )


def main() -> None:
    """Prints the machine and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[32])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--engines", nargs="+", default=["plain", *OFFERS], choices=["plain", *OFFERS])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = world.choose_device(arguments.device)
    machine = world.describe_machine(device)
    versions = ", ".join(f"{library} {machine['libraries'][library]}" for library in ("torch", "timm", "openvino"))
    print(f"{machine['device_name']}, {machine['cpus']} cores, bf16 {machine['multiplies_bfloat16']}, {versions}")
    for name in arguments.backbones:
        for batch in arguments.batch:
            measure(name, arguments.engines, batch, arguments.side, arguments.calls, device)


if __name__ == "__main__":
    main()
