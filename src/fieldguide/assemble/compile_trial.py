"""`python -m fieldguide.assemble.compile_trial`: times passes of a network, plain and compiled, for `compiling.py`."""

import json
import time
from collections.abc import Callable
from typing import Any

import torch

from fieldguide.assemble.compiling import received
from fieldguide.assemble.tools import precision_context
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier, set_trainable
from fieldguide.training.step import StepSettings, gradients, training_mode
from fieldguide.world import wait_for
from fieldguide.world.convolutions import convolutions

WARM_UP, SECONDS, MOST = 2, 2.0, 20


def measured(model: Classifier, asked: dict[str, Any]) -> dict[str, float]:
    """The fields of `compiling.Trial`."""
    device = torch.device(asked["device"])
    model = model.to(device)
    set_batch_norm(model, asked["batch_norm"], asked["side_px"])
    set_trainable(model, asked["trainable"])
    images = torch.randn(asked["photos"], 3, asked["side_px"], asked["side_px"], device=device)
    if asked["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    training_mode(model)
    labels = torch.zeros(asked["photos"], dtype=torch.int64, device=device)
    settings = StepSettings(0.0, None, precision_context(asked["precision"], device))

    def run() -> None:
        gradients(model, images, labels, settings)
        wait_for(device)

    with convolutions("fast" if asked["channels_last"] else "exact"):
        plain = timed(run)
        began = time.perf_counter()
        model.compile(dynamic=False)
        run()
        compiling = time.perf_counter() - began
        return {"plain_seconds": plain, "compiled_seconds": timed(run), "compile_seconds": compiling}


def timed(run: Callable[[], None]) -> float:
    """Seconds of one run: the median of several, after some that do not count."""
    for _ in range(WARM_UP):
        run()
    found: list[float] = []
    while len(found) < 3 or (sum(found) < SECONDS and len(found) < MOST):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


if __name__ == "__main__":
    print(json.dumps(measured(*received())))
