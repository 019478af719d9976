"""Weights in torch's own format, read in a child process with limits, because the format is a kind of program.

torch's `weights_only` runs no code of the file, but a few bytes can still keep it busy for years (keys of nested
tuples, whose hash takes twice as long a level) or ask for any amount of memory. What was read comes back as
safetensors.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fieldguide.errors import UsageError

SECONDS, BYTES_PER_SECOND = 120.0, 10_000_000  # starting torch on a slow disk, and reading
ROOM_BYTES, TIMES_FILE = 2**30, 4  # memory: the file's bytes, its tensors, their copies, and some
REFUSED = 3


def read_foreign(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a .pth file, by a child process.

    Raises:
        UsageError: missing, damaged, with more than tensors, too slow, or too large.
    """
    with tempfile.TemporaryDirectory(prefix="fieldguide-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "weights.safetensors"
        seconds = SECONDS + (path.stat().st_size / BYTES_PER_SECOND if path.is_file() else 0)
        places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
        command = [sys.executable, "-P", "-m", "fieldguide.model.foreign", str(path), str(target)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"model.weights: {path} took over {seconds:,.0f} s to read, so reading stopped; save its "
                "state dict again, best as .safetensors"
            ) from None
        if done.returncode == REFUSED:
            raise UsageError(done.stdout.decode("utf-8", "surrogateescape"))
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["too much memory?"]
            raise UsageError(
                f"model.weights: {path} cannot be read (its reader ended with {done.returncode}: {last[0][:160]})"
            )
        return dict(load_file(target))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from torch's format, in this process, without executing pickled code.

    Raises:
        UsageError: missing, damaged, or with more than tensors.
    """
    where = f"model.weights: {path}"
    try:
        _demand_no_bomb(path, where)
        content = torch.load(path, map_location="cpu", weights_only=True)
        return _tensors(content, where, most_bytes=2 * path.stat().st_size)
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error})") from None
    except UsageError:
        raise
    except MemoryError:
        raise UsageError(f"{where} needs more memory than this machine has") from None
    except pickle.UnpicklingError:
        raise UsageError(
            f"{where} contains more than tensors, or is damaged; code from a file is never run. "
            "Save only its state dict, best as .safetensors"
        ) from None
    except Exception as error:  # torch.load raises errors of any kind on damaged input
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise UsageError(f"{where} cannot be read ({reason})") from None


def _demand_no_bomb(path: Path, where: str) -> None:
    """torch stores without compression, but reads compressed archives, which can hold a thousand times more."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise UsageError(
                f"{where} is a compressed archive, which torch never writes and which may be huge; "
                "save the state dict again, best as .safetensors"
            )


def _tensors(content: Any, where: str, most_bytes: int) -> dict[str, torch.Tensor]:
    """The state dict inside a checkpoint."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise UsageError(f"{where} contains a {type(content).__name__}, not a state dict")
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor) and _is_plain(value)
    }
    if not tensors:
        raise UsageError(f"{where} contains no tensors")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > most_bytes:
        raise UsageError(f"{where} cannot be read (its tensors claim to be larger than the file)")
    return tensors


def _is_plain(tensor: torch.Tensor) -> bool:
    """Real numbers in memory: not sparse, not quantised, not of the meta device."""
    is_real = not (tensor.is_quantized or tensor.is_complex())
    return tensor.layout == torch.strided and is_real and tensor.device.type == "cpu"


def _bound_memory(file_bytes: int) -> None:
    """Limits the memory of this process to what such a file needs, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + ROOM_BYTES + TIMES_FILE * file_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(source: Path, target: Path) -> int:
    """Reads `source` and writes `target`, or prints why not; 0 or `REFUSED`."""
    torch.set_num_threads(1)
    try:
        _bound_memory(source.stat().st_size if source.is_file() else 0)
        tensors = tensors_of(source)
        save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, target)
    except UsageError as error:
        reason = str(error)
    except Exception as error:  # no room for the copy, or a type that safetensors lacks
        reason = (
            f"model.weights: {source} cannot be read ({(str(error) or type(error).__name__).splitlines()[0][:160]})"
        )
    else:
        return 0
    sys.stdout.buffer.write(reason.encode("utf-8", "surrogateescape"))
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
