"""`fieldguide env`: what `auto` means on this machine, and what to put into a bug report."""

import os
from collections.abc import Iterator

from fieldguide import world
from fieldguide.commands.terminal import allocator

GIB = 2**30


def env(device: world.Device = "auto") -> Iterator[tuple[str, str]]:
    """Names and values to show; raises UsageError if there is no such device."""
    chosen = world.choose_device(device)
    machine = world.describe_machine(chosen)
    if str(device) == "auto" and (why := world.why_no_gpu()):
        yield "warning", why
    available = world.available_bytes(chosen)
    precision = {"bf16": "bf16 (native)", "fp16": "fp16 (no native bf16)", "fp32": "fp32 (no native bf16)"}
    yield "device", f"{machine['device']} ({machine['device_name']}), {machine['threads']} threads of {machine['cpus']}"
    yield "memory", "unknown" if available is None else f"{available / GIB:.1f} GiB free"
    yield "precision", precision[world.fastest_precision(chosen)]
    pays = chosen.type == "cuda" and world.can_compile(chosen)
    yield "compile", "measured in trainings of 2,000 steps or more" if pays else "never (no gain, or not possible here)"
    yield "compiler", world.compiler() or "none found (torch.compile on a CPU needs one)"
    yield "allocator", allocator.setting(os.environ)
    yield "platform", f"{machine['platform']}, Python {machine['python']}"
    for name, version in machine["libraries"].items():
        yield name, version or "not installed"
