"""How much more memory a training step takes per photo than its forward pass keeps; see `training/memory.py`.

Usage: python benchmarks/kept.py resnet34 --batch 32
timm's network of that name, 224 px, trained as `execution: fast` does on a CPU. It takes steps on two photos, then on
the batch: the figure is the rise of the peak resident memory, divided by what `kept_bytes_per_image` reports.
"""

import argparse
import resource

import timm
import torch

from fieldguide import world
from fieldguide.training.memory import kept_bytes_per_image
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.step import MicroBatch, StepSettings, train_step

SIZE = 224


def highest_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    is_bfloat16 = world.multiplies_bfloat16(torch.device("cpu"))

    def precision() -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bfloat16)

    model = timm.create_model(asked.network, num_classes=100).to(memory_format=torch.channels_last)
    kept = kept_bytes_per_image(model, SIZE, precision)
    model.train()
    optimizer = make_optimizer(model, 1e-4, kind="adam", momentum=0, weight_decay=0, fused=True)

    def steps(count: int) -> int:
        settings = StepSettings(0.0, None, precision, MicroBatch(count))
        for _ in range(2):
            images = torch.randn(count, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
            train_step(model, optimizer, images, torch.randint(100, (count,)), settings)
        return highest_bytes()

    few = steps(2)
    ratio = (steps(asked.batch) - few) / (kept * (asked.batch - 2))
    print(
        f"{asked.network}: {kept / 1e6:.1f} MB kept a photo; a step of {asked.batch} takes {ratio:.2f} times that more"
    )


if __name__ == "__main__":
    main()
