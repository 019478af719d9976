"""An environment that has this environment's packages but not fieldguide, which can be installed there from a wheel."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "src")
SETUPTOOLS = 77  # the first that knows the licence fields of pyproject.toml


class Environment:
    """A virtual environment; its own folder of packages begins empty."""

    def __init__(self, root):
        venv.create(root, with_pip=False)
        self.python = root / "bin" / "python"
        self.own = Path(sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)}))
        shared = root / "shared"
        shared.mkdir()
        for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(folder).iterdir():
                if "fieldguide" not in entry.name:  # also not what makes a clone importable
                    (shared / entry.name).symlink_to(entry)
        (self.own / "shared.pth").write_text(f"{shared}\n")

    def run(self, *arguments, cwd, **variables):
        """Runs its Python without the repository, without an index and without anybody's settings of pip."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        settings = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [self.python, *arguments], cwd=cwd, env={**kept, **settings, **variables}, capture_output=True, text=True
        )

    def installed(self):
        """Names of distributions in its own folder."""
        return sorted(found.name for found in importlib.metadata.distributions(path=[str(self.own)]))


def copy_sources(folder):
    """What a wheel is built from, so that building leaves nothing in the repository."""
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    return folder


def demand_tools():
    """Skips the test where no wheel can be built without a network."""
    if _version("pip") == "none":
        pytest.skip("builds a wheel: needs pip")
    found = _version("setuptools")
    if not found[0].isdigit() or int(found.partition(".")[0]) < SETUPTOOLS:
        pytest.skip(f"builds a wheel: needs setuptools {SETUPTOOLS} or later, here is {found}")


def _version(name):
    """Of an installed distribution; to look for the module pip would warn where distutils is imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def build_wheel(sources, folder):
    """The wheel of these sources, built without a network."""
    command = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", folder, sources]
    made = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return next(folder.glob("fieldguide-*.whl"))
