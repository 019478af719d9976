"""What limits a training step on this machine: its fastest matrix products, and where the step's time goes.

Usage: python benchmarks/limits.py resnet34-adam --set execution=fast [--set FIELD=VALUE] [--trainable last_two_stages]
                                   [--batch-norm folded]
The products are torch's, 4,096 wide, the best of six. The step is the program's own on one repeated batch, after three
steps that do not count. Its operators are those of torch's profiler, summed by kind; torch counts their operations.
"""

import argparse
import time

import step
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fieldguide import world
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import set_trainable
from fieldguide.training.step import train_step, training_mode

SIDE = 4_096
KINDS = {
    "convolutions": ("convolution",),
    "batch normalisation": ("batch_norm",),
    "activations and pooling": ("threshold", "relu", "clamp", "pool", "silu", "sigmoid"),
    "copies and casts": ("copy_", "fill_", "empty", "cat", "clone"),
    "optimiser": ("adam", "sgd"),
    "sums": ("add", "sum", "mean", "mul"),
}


def products(dtype: torch.dtype, device: torch.device) -> float:
    """TFLOP/s."""
    one, two = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        float((one @ two)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best / 1e12


def kind_of(operator: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operator for part in parts)), "the rest")


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--batch-norm", default="train")
    parser.add_argument("--trainable", default="all")
    arguments = parser.parse_args()
    device = world.choose_device("cpu")
    machine = world.describe_machine(device)
    print(f"{machine['device_name']}, {machine['threads']} threads, torch {machine['libraries']['torch']}")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"matrix product in {str(dtype).removeprefix('torch.')}: {products(dtype, device):.2f} TFLOP/s")
    assembled, batch = step.of_recipe(arguments.recipe, arguments.set, device)
    model, settings = assembled.model, assembled.tools.step
    set_batch_norm(model, arguments.batch_norm, batch.images.shape[-1])
    set_trainable(model, arguments.trainable)
    optimizer = assembled.tools.make_optimizer(model, 1e-4)
    training_mode(model)

    def one() -> None:
        train_step(model, optimizer, batch.images, batch.labels, settings)

    for _ in range(2):
        one()
    with FlopCounterMode(display=False) as counter:
        one()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        one()
    spent: dict[str, float] = {}
    for event in seen.key_averages():
        spent[kind_of(event.key)] = spent.get(kind_of(event.key), 0.0) + event.self_cpu_time_total / 1e6
    total, operations = sum(spent.values()), counter.get_total_flops()
    print(
        f"step of {len(batch.labels)} photos: {total:.3f} s, {operations / len(batch.labels) / 1e9:.1f} GFLOP a photo"
    )
    for kind, seconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"  {kind:<24} {seconds:7.3f} s  {seconds / total:6.1%}")
    print(f"the convolutions' products run at {operations / spent['convolutions'] / 1e12:.2f} TFLOP/s")


if __name__ == "__main__":
    main()
