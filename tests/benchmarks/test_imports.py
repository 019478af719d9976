"""What benchmarks and examples take from the program is there; most of them need photos or peers to be run."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
OURS = [path for path in SCRIPTS if ".venv" not in path.parts]


def taken_from_the_program(path):
    """(module, name) of each import from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fieldguide":
            yield from ((node.module, one.name) for one in node.names)


def test_scripts_are_found():
    assert any(True for path in OURS for _ in taken_from_the_program(path))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_script_takes_only_what_is_there(path):
    for module, name in taken_from_the_program(path):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")  # else a module
