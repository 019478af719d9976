"""Images per second of training steps: as a recipe computes them, bare, and as plain PyTorch with its best flags."""

import contextlib
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from tests.gpu_check.checks import Where

PRESETS = ("resnet34-adam", "resnet50-adam", "resnetrs101-adam", "competition")
SECONDS, WARM_UP, TINY_PX = 2.0, 3, 32
GOAL_OF_BARE, GOAL_RESIDENT = 0.95, 20_000.0
Seconds = Callable[[], float]


def measure(where: Where, left: Seconds, tell: Callable[[str], None]) -> dict[str, Any]:
    """A row for each preset, and remarks; on a CPU of a tiny network, to see that it runs."""
    from fieldguide.errors import FieldguideError

    rows, remarks = [], []
    for preset in PRESETS if where.device.type != "cpu" else PRESETS[1:2]:
        if left() <= 20:
            remarks.append(f"{preset}: not run, out of time")
            continue
        row: dict[str, Any] = {"preset": preset}
        for name, function in COLUMNS.items():
            row[name] = None
            if left() <= 10:
                remarks.append(f"{preset}, {name}: not run, out of time")
                continue
            try:
                row[name] = function(where, preset)
            except ModuleNotFoundError as error:
                remarks.append(f"{preset}, {name}: not run, needs {error.name}")
            except (FieldguideError, NotImplementedError, RuntimeError) as error:
                remarks.append(f"{preset}, {name}: not run ({str(error)[:160]})")
        tell(f"{preset}: {row}")
        rows.append(row | {"GPU memory, GB": _peak(where.device)})
    if where.device.type == "cpu":
        remarks.append("a tiny network on a CPU: these figures show that it runs, and no speed")
    else:
        remarks += _against_goals(rows)
    return {"rows": rows, "remarks": remarks + _resident(where, left)}


def _against_goals(rows: list[dict[str, Any]]) -> list[str]:
    found = []
    for row in rows:
        fast, bare, plain = (row[name] for name in ("fast, from photos", "bare step", "plain PyTorch"))
        if fast and bare:
            found.append(f"{row['preset']}: fast is {fast / bare:.3f} of the bare step (goal {GOAL_OF_BARE})")
        if fast and plain:
            found.append(f"{row['preset']}: fast is {fast / plain:.3f} of plain PyTorch (goal: never below 1)")
    return found


def _peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    torch.cuda.empty_cache()
    return peak


def rate(step: Callable[[], object], photos: int, device: torch.device) -> float:
    """Images per second of a step, after some that do not count."""
    from fieldguide.world import wait_for

    for _ in range(WARM_UP):
        step()
    wait_for(device)
    count, began = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - began < SECONDS * (1 if device.type != "cpu" else 0.1):
        step()
        count += 1
        if count % 8 == 0:
            wait_for(device)
    wait_for(device)
    return count * photos / (time.perf_counter() - began)


def _network(where: Where, preset: str) -> tuple[nn.Module, Any, int, int]:
    """The preset's network, its resolved recipe, the side of its input, and the batch."""
    from fieldguide import assemble
    from fieldguide.model.classifier import make_classifier
    from fieldguide.recipe.load import read_recipe

    tiny = ("model.backbone=test_resnet", "rules.backbones=null", f"data.image_size_px={TINY_PX}")
    small = where.device.type == "cpu"
    recipe = assemble.resolved(read_recipe(preset, ["model.weights=none", *(tiny if small else ())]))
    model = make_classifier(assemble.architecture(recipe, 100)).to(where.device)
    return model, recipe, recipe.data.image_size_px or TINY_PX, 8 if small else 64


def _step(where: Where, preset: str, execution: str, *, compiled: bool = False) -> float:
    """The program's own step on one synthetic batch."""
    from fieldguide import world
    from fieldguide.assemble.tools import make_optimizer_of, precision_context
    from fieldguide.training.scaling import GradientScaling
    from fieldguide.training.step import StepSettings, train_step, training_mode

    model, recipe, side, batch = _network(where, preset)
    recipe, device = recipe.model_copy(update={"execution": execution}), where.device
    precision = world.fastest_precision(device) if execution == "fast" else "fp32"
    images, labels = torch.randn(batch, 3, side, side, device=device), torch.zeros(batch, dtype=torch.long).to(device)
    if execution == "fast":
        model, images = (
            model.to(memory_format=torch.channels_last),
            images.contiguous(memory_format=torch.channels_last),
        )
    training_mode(model)
    if compiled:
        model.compile(dynamic=False)
    optimizer = make_optimizer_of(recipe)(model, 1e-5)
    scaling = GradientScaling(device.type) if precision == "fp16" else None
    settings = StepSettings(0.0, None, precision_context(precision, device), scaling=scaling)
    return rate(lambda: train_step(model, optimizer, images, labels, settings), batch, device)


def exact(where: Where, preset: str) -> float:
    """fp32, as `execution: exact` computes."""
    return _step(where, preset, "exact")


def bare(where: Where, preset: str) -> float:
    """The step of `execution: fast` without photos."""
    return _step(where, preset, "fast")


def bare_compiled(where: Where, preset: str) -> float:
    """The same, compiled, as `training.compile: always` does."""
    from fieldguide import world

    if where.device.type != "cuda" or not world.can_compile(where.device):
        raise NotImplementedError("compiling takes minutes on a CPU, and needs Triton and a C compiler on a GPU")
    return _step(where, preset, "fast", compiled=True)


def plain(where: Where, preset: str) -> float:
    """A plain loop with the flags that people recommend: channels last, reduced precision, fused, compiled on a GPU."""
    step, images = _plain_step(where, preset)
    return rate(lambda: step(images), len(images), where.device)


def plain_from_jpegs(where: Where, preset: str) -> float:
    """The plain loop from JPEG files in memory, decoded and augmented by the device, one crop for a whole batch."""
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms import v2

    device, (step, images) = where.device, _plain_step(where, preset)
    count, side = len(images), images.shape[-1]
    root = many(where, 16 if device.type == "cpu" else 1_280)
    paths = sorted((root / "train").rglob("*.jpg"))[: 4 * count]
    files = itertools.cycle([torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths])
    drawn = (v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip())
    augment = v2.Compose([*drawn, v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.5,) * 3)])

    def whole() -> None:
        taken = [next(files) for _ in range(count)]
        decoded = torch.stack(decode_jpeg(taken, ImageReadMode.RGB, device=device)).to(device)
        step(augment(decoded).contiguous(memory_format=torch.channels_last))

    return rate(whole, count, device)


def _plain_step(where: Where, preset: str) -> tuple[Callable[[torch.Tensor], None], torch.Tensor]:
    """A step of the plain loop, and a synthetic batch for it."""
    from fieldguide import world

    _, recipe, side, batch = _network(where, preset)
    device = where.device
    model = timm.create_model(recipe.model.backbone, num_classes=100).to(device, memory_format=torch.channels_last)
    model.train()
    stepped = torch.compile(model) if device.type == "cuda" and world.can_compile(device) else model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(world.fastest_precision(device))
    images = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.long).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    context = contextlib.nullcontext() if precision is None else torch.autocast(device.type, precision)

    def step(images: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with context:
            loss = nn.functional.cross_entropy(stepped(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step, images


def fast_from_photos(where: Where, preset: str) -> float:
    """A training with `execution: fast` on made-up photos, its second epoch without validation."""
    import fieldguide
    from fieldguide.run_folder import RunFolder

    small = where.device.type == "cpu"
    shrunk = ("model.backbone=test_resnet", f"data.image_size_px={TINY_PX}", "training.batch_size=8") if small else ()
    photos = where.photos if small else many(where, 1_280)
    own = ("training.phases=[{augmentation: standard, max_epochs: 2, patience_epochs: 2}]", "training.rounds=0")
    settings = (*own, "model.weights=none", "rules.backbones=null", "execution=fast", "data.test_size_px=null", *shrunk)
    if preset != "competition":
        settings = (*settings, "augmentation.engine=fused")
    run = fieldguide.train(
        photos, preset, where.scratch / f"fast-{preset}", overrides=settings, device=str(where.device), quiet=True
    )
    return float(max(epoch["images_per_second"] for epoch in RunFolder(run.path).read_history()[1:]))


def waiting(where: Where, preset: str) -> float:
    """The share of that training's time that it waited for photos."""
    from fieldguide.run_folder import RunFolder

    run = RunFolder(where.scratch / f"fast-{preset}")
    if not run.result.exists():
        raise NotImplementedError("there was no training to read it from")
    return float(json.loads(run.result.read_text())["waited_for_data"])


def many(where: Where, count: int) -> Any:
    """So many photos of 320 px, made once."""
    import numpy as np
    from PIL import Image

    root, draw = where.scratch / f"many-{count}", np.random.default_rng(1)
    if root.exists():
        return root
    for number in range(count + 64):
        part, name = ("train" if number < count else "val"), f"{number % 4}"
        folder = root / part / name
        folder.mkdir(parents=True, exist_ok=True)
        noise = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(noise).save(folder / f"{number}.jpg", quality=90)
    return root


def _resident(where: Where, left: Seconds) -> list[str]:
    """Augmentation of photos that lie in the device's memory."""
    if left() <= 10:
        return ["resident augmentation: not run, out of time"]
    try:
        speed = resident(where)
    except (ModuleNotFoundError, NotImplementedError, RuntimeError) as error:
        return [f"resident augmentation: not run ({str(error)[:160]})"]
    if where.device.type == "cpu":
        return [f"resident augmentation runs ({speed:,.0f} images/s at {TINY_PX} px)"]
    return [f"resident augmentation at 224 px: {speed:,.0f} images/s (goal {GOAL_RESIDENT:,.0f})"]


def resident(where: Where) -> float:
    """Images per second of the strong augmentation, from photos in the device's memory to normalised batches."""
    from fieldguide.data.batch.batches import LabelledPhoto
    from fieldguide.data.batch.device_batches import DeviceBatches
    from fieldguide.data.read.cache import Cache
    from fieldguide.data.read.preprocess import Preprocessing
    from fieldguide.data.read.reading import Reading
    from fieldguide.settings import STRONG
    from fieldguide.storage import file_digest
    from fieldguide.world import wait_for

    small = where.device.type == "cpu"
    root = where.photos if small else many(where, 1_280)
    paths = sorted((root / "train").rglob("*.[jp][pn]g"))
    photos = [LabelledPhoto(path, path.name, 0, file_digest(path)) for path in paths]
    side = TINY_PX if small else 224
    reading = Reading()
    preprocessing = Preprocessing(side, side, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), reading=reading)
    pixels = Cache().pixels_of(photos, 2 * side, reading)
    batches = DeviceBatches(
        photos, {"strong": STRONG}, pixels, preprocessing, device=where.device, seed=0,
        batch_size=8 if small else 64, most_resident_bytes=2**33,
    )  # fmt: skip
    done, began = 0, 0.0
    for epoch in range(1, 4):
        if epoch == 2:
            wait_for(where.device)
            began = time.perf_counter()
        for batch in batches.epoch("strong", epoch, 0):
            done += len(batch.labels) if epoch > 1 else 0
    wait_for(where.device)
    return done / (time.perf_counter() - began)


COLUMNS: dict[str, Callable[[Where, str], float]] = {
    "exact": exact,
    "fast, from photos": fast_from_photos,
    "waiting share": waiting,
    "bare step": bare,
    "bare step, compiled": bare_compiled,
    "plain PyTorch": plain,
    "plain PyTorch, nvJPEG": plain_from_jpegs,
}
