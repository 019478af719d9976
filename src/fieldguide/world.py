"""The machine: its device, its arithmetic, its description. The only one that will know other processes."""

import contextlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import torch

from fieldguide.errors import UsageError

LIBRARIES = (
    "fieldguide",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "scikit-learn",
    "scipy",
    "safetensors",
    "openvino",
)


def choose_device(name: str) -> torch.device:
    """A device by the name a user gave.

    Args:
        name: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise UsageError(f"--device {name}: must be auto, cpu or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise UsageError(f"--device {name}: this machine has {count} CUDA devices that torch can use")
        return torch.device(f"cuda:{number or 0}")
    return torch.device("cpu")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has matrix units or instructions for bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Draws torch's random numbers from `seed` inside, and leaves the caller's as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What numbers and times depend on, as plain data."""
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "multiplies_bfloat16": multiplies_bfloat16(device),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
