"""The machine: its device, its arithmetic, its description. `processes.py` knows others that train with this one.

What needs torch imports it when called: a prediction by an export works without it, and torch takes seconds to import.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Union

from fieldguide.errors import UsageError
from fieldguide.world.container import available_of_group, available_of_machine, cores_of_group

if TYPE_CHECKING:
    import torch

LIBRARIES = (
    "fieldguide",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-learn",
    "scipy",
    "safetensors",
    "openvino",
)
LOOP, LOOP_SECONDS = 500_000, 0.07  # additions, and what they took where times for pages were measured
MOST_SLOWNESS = 8.0
Device = Union[str, "torch.device"]  # `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, or torch's own
NO_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    "status_alloc_failed",  # of cuBLAS and cuDNN
)


def slowness() -> float:
    """How many times longer Python takes here and now than where times were measured, at least 1; takes 0.1 s."""
    began, total = time.perf_counter(), 0
    for number in range(LOOP):
        total += number
    return min(MOST_SLOWNESS, max(1.0, (time.perf_counter() - began) / LOOP_SECONDS))


def choose_device(device: Device) -> torch.device:
    """A device by the name a user gave.

    Args:
        device: `auto` (an NVIDIA GPU where there is one, else the CPU), `cpu`, `cuda`, `cuda:N`, `mps` (the GPU of an
            Apple chip), or a `torch.device`.

    Raises:
        UsageError: no such device here.
    """
    import torch

    name = str(device)
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise UsageError(f"--device {name}: must be auto, cpu, cuda:N or mps")
    if kind == "mps":
        if not torch.backends.mps.is_available() or int(number or 0):
            raise UsageError(f"--device {name}: torch sees no such Apple GPU here")
        return torch.device("mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise UsageError(f"--device {name}: this machine has {count} CUDA devices that torch can use")
        return torch.device(f"cuda:{number or 0}")
    return torch.device("cpu")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has matrix units or instructions for bf16."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # earlier versions of torch, which tell of x86 alone
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))


def fastest_precision(device: torch.device) -> Literal["bf16", "fp16", "fp32"]:
    """What the device multiplies fastest: bf16, else fp16 on GPUs with matrix units for it (a T4), else fp32."""
    if multiplies_bfloat16(device):
        return "bf16"
    return "fp16" if multiplies_float16(device) else "fp32"


def multiplies_float16(device: torch.device) -> bool:
    """Whether the device has matrix units for fp16: NVIDIA's since Volta."""
    import torch

    return device.type == "cuda" and bool(torch.cuda.get_device_capability(device) >= (7, 0))


def wait_for(device: torch.device) -> None:
    """Waits until the device has computed all that was asked of it."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def why_no_gpu() -> str | None:
    """Why torch sees no NVIDIA GPU although the driver does; None where that is not so."""
    if not (driver := shutil.which("nvidia-smi")):
        return None
    import torch

    if torch.cuda.is_available():
        return None
    try:
        done = subprocess.run([driver, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    names = re.findall(r"^GPU \d+: (.+?)(?: \(UUID|$)", done.stdout, re.MULTILINE)
    if done.returncode or not names:
        return None
    return f"nvidia-smi sees a GPU ({names[0]}), but torch does not, because {_why_torch_sees_none()}"


def _why_torch_sees_none() -> str:
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built for the CPU alone; install a build with CUDA (pytorch.org says how)"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}; unset it"
    try:
        torch.zeros(1, device="cuda")
    except (AssertionError, RuntimeError) as error:
        return f"CUDA {torch.version.cuda} cannot start ({str(error).splitlines()[0][:200]}); update the driver"
    return f"CUDA {torch.version.cuda} finds no device; is the driver new enough?"


def cores() -> int:
    """Processor cores for this process: a container or a cluster may give it fewer than there are."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # not everywhere
        found = os.cpu_count() or 1
    return max(1, min(found, cores_of_group() or found) // beside())


def beside() -> int:
    """How many processes of one training share this machine, this one included; torchrun says it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def compiler() -> str | None:
    """The C++ compiler that torch.compile uses on a CPU; None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs: a C++ compiler on a CPU, Triton and a C compiler on a GPU."""
    if device.type != "cuda":
        return device.type == "cpu" and compiler() is not None
    c_compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, c_compilers))


def hush_compiler() -> None:
    """Keeps torch's compiler from writing to the terminal that it looked for CUDA and found none."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left; torch often says it in words alone."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)


def available_bytes(device: torch.device) -> int | None:
    """Memory that this process can take on the device now; None where the system does not tell."""
    import torch

    if device.type == "cuda":  # what torch keeps for later is taken by nobody else
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    found = [available_of_machine(), available_of_group()]
    return min((value // beside() for value in found if value is not None), default=None)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leaves torch's random state on exit as it was; making a network draws weights that are then replaced."""
    import torch

    with torch.random.fork_rng():
        yield


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Draws torch's random numbers from `seed` inside, and leaves the caller's as they were."""
    import torch

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
    import torch

    processes = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    return {
        **({} if processes == "1" else {"processes": int(processes)}),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpus": cores(),
        "multiplies_bfloat16": multiplies_bfloat16(device),
        "cuda": torch.version.cuda,
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
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
