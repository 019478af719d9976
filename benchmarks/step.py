"""How many photos a second a preset trains on this machine: bare steps on random photos, without reading any.

Usage: python benchmarks/step.py resnet34-adam resnet50-adam resnetrs101-adam --steps 3
Each preset's own network, input size, batch size, optimiser and precision; the first step is not counted.
"""

import argparse
import statistics
import time

import torch

from fieldguide import assemble, world
from fieldguide.model.classifier import count_parameters, make_classifier
from fieldguide.recipe.load import read_recipe
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.step import StepSettings, train_step, training_mode

NUM_CLASSES = 100


def images_per_second(preset: str, steps: int, device: torch.device) -> tuple[float, int]:
    """Median over the steps, and the network's parameters."""
    recipe = assemble.resolved(read_recipe(preset, ["model.weights=none"]))
    assert recipe.execution == "exact", "this times the presets of the report"
    model = make_classifier(assemble.architecture(recipe, NUM_CLASSES)).to(device)
    training, size = recipe.training, recipe.data.image_size_px
    optimizer = make_optimizer(
        model,
        training.learning_rate,
        kind=training.optimizer,
        momentum=training.momentum or 0.0,
        weight_decay=training.weight_decay,
    )
    images = torch.randn(training.batch_size, 3, size, size, device=device)
    labels = torch.randint(NUM_CLASSES, (training.batch_size,), device=device)
    settings = StepSettings(training.label_smoothing, training.gradient_clip_norm, torch.enable_grad)
    training_mode(model)
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        train_step(model, optimizer, images, labels, settings)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return training.batch_size / statistics.median(seconds[1:]), count_parameters(model)["total"]


def main() -> None:
    """Prints a line a preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = world.choose_device(arguments.device)
    machine = world.describe_machine(device)
    print(f"{machine['device_name']}, {machine['cpus']} cores, torch {machine['libraries']['torch']}, on {device}")
    for preset in arguments.presets:
        speed, parameters = images_per_second(preset, arguments.steps, device)
        print(f"{preset:<18} {parameters:>12,} parameters  {speed:8.2f} images/s")


if __name__ == "__main__":
    main()
