"""What has to be right on a device: precisions, engines, memory, resuming, and the same answers as a CPU."""

import copy
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

CPU = torch.device("cpu")
SMALL = (
    *("model.backbone=test_resnet", "model.weights=none", "rules.backbones=null", "data.image_size_px=32"),
    *("training.batch_size=8", "training.learning_rate=0.003", "training.rounds=0"),
    *("training.phases.0.max_epochs=1", "training.phases.1.max_epochs=1"),
)
CLASSES, PER_CLASS = ("10", "2", "cat"), {"train": 16, "val": 6, "test": 4}
SAME_LOGITS = {"cpu": 1e-5, "cuda": 5e-3, "mps": 5e-3}  # of fp32 with TF32 in convolutions, relative to their range


@dataclass
class Where:
    """A device, and a folder for what is written."""

    device: torch.device
    scratch: Path

    @cached_property
    def photos(self) -> Path:
        """Made-up photos of three classes, by colour."""
        import numpy as np
        from PIL import Image

        draw, root = np.random.default_rng(0), self.scratch / "photos"
        for part, count in PER_CLASS.items():
            for hue, name in enumerate(CLASSES, start=1):
                folder = root / part / name
                folder.mkdir(parents=True)
                for number in range(count):
                    noise = draw.normal(0, 45, (12, 12, 3)).repeat(6, 0).repeat(6, 1)
                    pixels = np.array([(hue * 83) % 256, (hue * 151) % 256, (hue * 37) % 256]) + noise
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        return root

    def train(self, name: str, *overrides: str) -> Any:
        """A small training on the device."""
        import fieldguide

        return fieldguide.train(
            self.photos, "resnet50-adam", self.scratch / name, overrides=(*SMALL, *overrides),
            device=str(self.device), quiet=True,
        )  # fmt: skip


def machine(device: torch.device) -> dict[str, Any]:
    """What the results depend on."""
    from fieldguide import world

    told = world.describe_machine(device)
    return {**told, "torch": torch.__version__, "precision": world.fastest_precision(device)}


def trains_exactly(where: Where) -> str:
    """fp32 with torchvision's transforms, then the written model judged."""
    return _told(where.train("exact", "execution=exact"), "fp32")


def trains_fast(where: Where) -> str:
    """The device's own precision, channels last, a fused optimiser, augmentation on a GPU."""
    from fieldguide import world

    return _told(where.train("fast", "execution=fast"), world.fastest_precision(where.device))


def trains_in_fp16(where: Where) -> str:
    """Scaled gradients, on a GPU that multiplies fp16; a CPU scales gradients in fp32 in the tests."""
    from fieldguide import world

    if not world.multiplies_float16(where.device):
        raise NotImplementedError(f"{where.device} does not multiply fp16 natively")
    run = where.train("fp16", "execution=fast", "training.precision=fp16")
    return f"{_told(run, 'fp16')}, {run.result['skipped_steps']} steps skipped"


def _told(run: Any, precision: str) -> str:
    assert run.result["precision"] == precision, run.result["precision"]
    loss = run.result["validation"]["loss"]
    assert loss < 5, loss
    return f"{precision}, validation loss {loss:.3f}"


def engines_agree(where: Where) -> str:
    """Every engine that this machine has, against the plain one on the CPU."""
    import fieldguide

    photos = sorted((where.photos / "test").rglob("*.png"))
    run = where.scratch / "exact"
    expected = fieldguide.load(run, "cpu").predict_proba(photos)
    told = []
    for engine in ("plain", "folded", *(("compiled",) if where.device.type == "cuda" else ())):
        predictor = fieldguide.load(run, str(where.device), engine=engine)
        worst = float(abs(predictor.predict_proba(photos) - expected).max())
        assert worst < 0.03, f"{engine}: probabilities differ by {worst:.3f}"
        told.append(f"{engine} {worst:.1e}")
    return f"largest difference of a probability: {', '.join(told)}"


def same_answers_as_a_cpu(where: Where) -> str:
    """A network's logits, and its weights after a step, on the device and on the CPU."""
    import contextlib

    from fieldguide.model.architecture import Architecture
    from fieldguide.model.classifier import make_classifier
    from fieldguide.training.optimizer import make_optimizer
    from fieldguide.training.step import StepSettings, train_step

    torch.manual_seed(0)
    first = make_classifier(Architecture("test_resnet", "bottleneck", 16, 0.0, 3))
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 3
    answers, weights = [], []
    for device in (CPU, where.device):
        model = copy.deepcopy(first).to(device)
        with torch.inference_mode():
            answers.append(model.eval()(images.to(device)).float().cpu())
        optimizer = make_optimizer(model.train(), 0.01, kind="sgd", momentum=0.9, weight_decay=0)
        settings = StepSettings(0.0, None, contextlib.nullcontext)
        train_step(model, optimizer, images.to(device), labels.to(device), settings)
        weights.append(torch.cat([value.detach().float().cpu().flatten() for value in model.parameters()]))
    found = [float((a - b).abs().max() / a.abs().max()) for a, b in (answers, weights)]
    most = SAME_LOGITS[where.device.type]
    assert max(found) <= most, f"differences of {found} of the range, more than {most}"
    return f"logits differ by {found[0]:.1e} of their range, weights after a step by {found[1]:.1e}"


def out_of_memory_is_survived(where: Where) -> str:
    """A step that does not fit is repeated in smaller pieces; on a GPU memory really runs out."""
    import contextlib

    from torch import nn

    from fieldguide.training.optimizer import make_optimizer
    from fieldguide.training.step import MicroBatch, StepSettings, train_step

    class Large(nn.Module):
        """A layer; with more than 8 photos at once it asks for more memory than there is."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(48, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 8 and images.device.type == "cuda":
                torch.empty(2**50, dtype=torch.uint8, device=images.device)
            elif len(images) > 8:
                raise torch.OutOfMemoryError("made up")
            logits: torch.Tensor = self.layer(images.flatten(1))
            return logits

    model = Large().to(where.device)
    pieces = MicroBatch(32)
    optimizer = make_optimizer(model, 0.1, kind="sgd", momentum=0, weight_decay=0)
    images, labels = torch.randn(32, 3, 4, 4, device=where.device), torch.zeros(32, dtype=torch.long).to(where.device)
    train_step(model, optimizer, images, labels, StepSettings(0.0, None, contextlib.nullcontext, pieces))
    assert pieces.photos == 8, pieces.photos
    return "32 photos at once did not fit, 8 did"


def resumes_after_a_kill(where: Where) -> str:
    """A process that is killed with its first checkpoint written, and gone on with here."""
    import fieldguide

    settings = (*SMALL, "execution=exact", "training.checkpoint_every_minutes=0")
    whole = where.scratch / "exact"  # the same training, uninterrupted
    run = where.scratch / "killed"
    flags = [part for field in settings for part in ("--set", field)]
    command = [sys.executable, "-m", "fieldguide", "train", str(where.photos), "-o", str(run), "--recipe"]
    child = subprocess.Popen(
        [*command, "resnet50-adam", "--device", str(where.device), *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list(run.glob("checkpoint/*.json")) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before its first checkpoint"
    resumed = fieldguide.resume(run, quiet=True)
    losses = [json.loads((path / "result.json").read_text())["validation"]["loss"] for path in (whole, run)]
    assert len(resumed.result["stages"]) == 2, resumed.result["stages"]
    allowed = 0.0 if where.device.type == "cpu" else 0.5  # sums on a GPU may run in another order
    assert abs(losses[0] - losses[1]) <= allowed, f"validation losses {losses}"
    return f"validation loss {losses[1]:.4f}, uninterrupted {losses[0]:.4f}"


def a_step_sizes_the_batch(where: Where) -> str:
    """A step of a real network is measured, and one that can never fit is split."""
    from fieldguide.assemble import sizing
    from fieldguide.training.memory import measured_fit

    meter = sizing.meter_of(where.device)
    if meter is None:
        raise NotImplementedError(f"memory of {where.device} is estimated, not measured")
    model, recipe = _made(where)
    whole = sizing.fit(model, recipe, "fp32", 64, meter)
    assert whole.photos == 64 and whole.bytes > 0, whole
    held: list[torch.Tensor] = []

    def step(photos: int) -> int:
        held[:] = [torch.empty(0, device=where.device)]
        held[:] = [torch.empty(meter.free() * photos // 40, dtype=torch.uint8, device=where.device)]
        return photos

    split = measured_fit(64, lambda photos: _halving(step, photos), meter)
    held.clear()
    assert split.photos == 32, split
    return f"64 photos take {whole.bytes / 1e6:,.0f} MB; of 64 for which there is no room, 32 go at once"


def _halving(step: Callable[[int], int], photos: int) -> int:
    """As a step does when memory runs out."""
    try:
        return step(photos)
    except torch.OutOfMemoryError:
        return _halving(step, photos // 2)


def compiling_is_measured(where: Where) -> str:
    """By another process on the same device, within its time."""
    from fieldguide import world
    from fieldguide.assemble import compiling

    if where.device.type != "cuda" or not world.can_compile(where.device):
        raise NotImplementedError(f"compiling pays on no {where.device.type}, or needs Triton and a C compiler")
    model, _ = _made(where)
    asked = {
        "photos": 64, "side_px": 64, "batch_norm": "train", "trainable": "all", "device": str(where.device),
        "precision": world.fastest_precision(where.device), "channels_last": True,
    }  # fmt: skip
    trial = compiling.measure(model, asked, compiling.MOST_SECONDS)
    return compiling.decide(trial, 10_000, 1, 64).told


def _made(where: Where) -> tuple[Any, Any]:
    """A ResNet-50 on the device, and its recipe, at 64 px."""
    from fieldguide import assemble
    from fieldguide.model.classifier import make_classifier
    from fieldguide.recipe.load import read_recipe

    recipe = assemble.resolved(read_recipe("resnet50-adam", ["model.weights=none", "data.image_size_px=64"]))
    return make_classifier(assemble.architecture(recipe, 3)).to(where.device), recipe


CHECKS: dict[str, Callable[[Where], str]] = {
    "trains in fp32, exactly": trains_exactly,
    "trains fast": trains_fast,
    "trains in fp16": trains_in_fp16,
    "engines agree": engines_agree,
    "same answers as a CPU": same_answers_as_a_cpu,
    "out of memory is survived": out_of_memory_is_survived,
    "resumes after a kill": resumes_after_a_kill,
    "a step sizes the batch": a_step_sizes_the_batch,
    "compiling is measured": compiling_is_measured,
}
