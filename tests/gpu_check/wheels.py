"""What the check needs beside torch, torchvision and timm, from a folder of wheels.

`python -m tests.gpu_check.wheels FOLDER [3.12]` fetches them where there is a network, in the versions of this
environment; `python -m tests.gpu_check --wheels FOLDER` takes them where there is none, without an install.
"""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
THERE = {"torch", "torchvision", "timm", "numpy", "pillow", "pyyaml", "safetensors", "huggingface-hub", "setuptools"}
LEFT_OUT = {"opencv-python-headless"}  # large, and a GPU augments by itself
GLIBC = (17, 24, 26, 27, 28)  # minor versions of manylinux that wheels are built for
PYTHON = "3.12"


def normalized(name: str) -> str:
    """A distribution's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for() -> list[str]:
    """The distributions that fieldguide names and that may be missing beside torch."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        found = tomllib.load(file)["project"]["dependencies"]
    names = (normalized(re.split(r"[<>=!~ ;\[]", each)[0]) for each in found)
    return [name for name in names if name not in THERE | LEFT_OUT]


def is_installed(name: str) -> bool:
    """Whether this Python finds it."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def lacking() -> list[str]:
    """What this Python lacks of `asked_for`."""
    return [name for name in asked_for() if not is_installed(name)]


def unpack(folder: Path, target: Path) -> list[str]:
    """Unpacks the wheels of what is not installed, at the end of the path; returns their names.

    Raises:
        ValueError: no wheels there, or they are for another Python.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ValueError(f"{folder}: there are no wheels in it")
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    taken = []
    for wheel in wheels:
        name, _, *_, python, abi, _ = wheel.stem.split("-")
        if is_installed(normalized(name)):
            continue
        if own not in python.split(".") and abi not in ("abi3", "none"):
            raise ValueError(f"{wheel.name}: is for {python}, and this is {own}; fetch them for it")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        taken.append(normalized(name))
    sys.path.append(str(target))
    return taken


def needed() -> dict[str, str]:
    """Names and versions, from this environment, of `asked_for` and all that these need in turn."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}

    def walk(names: Iterator[str]) -> None:
        for name in names:
            if name in found or name in THERE | LEFT_OUT:
                continue
            found[name] = importlib.metadata.version(name)
            parts = [Requirement(each) for each in importlib.metadata.requires(name) or ()]
            on = {"extra": "", "python_version": PYTHON, "sys_platform": "linux", "platform_system": "Linux"}
            walk(normalized(part.name) for part in parts if part.marker is None or part.marker.evaluate(on))

    walk(iter(asked_for()))
    return found


def fetch(folder: Path, python: str) -> int:
    """Downloads them; pip's exit code."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64"]
    options = [part for platform in platforms for part in ("--platform", platform)]
    options += [part for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for part in ("--abi", abi)]
    names = [f"{name}=={version}" for name, version in needed().items()]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    return subprocess.call([*command, "--python-version", python, *options, "-d", str(folder), *names])


if __name__ == "__main__":
    sys.exit(fetch(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else PYTHON))
