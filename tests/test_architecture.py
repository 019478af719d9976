"""The import table of ARCHITECTURE.md, held against the code."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fieldguide"
BASE = {"storage", "errors"}
BELOW_COMMANDS = {
    "assemble", "data", "deploy", "evaluation", "export_folder", "model", "recipe", "report", "result_format",
    "run_folder", "settings", "training", "world", *BASE,
}  # fmt: skip
# A room inside a room is written with its parent; who may import the parent may import all that is inside it.
MAY_IMPORT = {
    "__init__": {"commands", "data/look", "deploy", "recipe", "training", "errors"},
    "__main__": {"cli"},
    "cli": {
        "commands", "experiment_cli", "export_cli", "options", "recipe", "recipes_cli", "serve_cli", "weights_cli",
        "errors",
    },
    "options": {"commands"},
    "recipes_cli": {"commands", "options"},
    "weights_cli": {"commands", "options"},
    "export_cli": {"commands", "options"},
    "experiment_cli": {"commands", "options"},
    "serve_cli": {"commands", "options"},
    "commands": {
        "cluster", "commands/exporting", "commands/trial", "commands/judging", "commands/terminal", *BELOW_COMMANDS,
    },
    "commands/trial": {"commands/judging", "commands/terminal", *BELOW_COMMANDS},
    "commands/exporting": {
        "commands/judging", "commands/trial", "data/look", "data/read", "data/split", "deploy", "evaluation",
        "export_folder", *BASE,
    },
    "commands/judging": {
        "locks", "data/look", "data/split", "data/table", "deploy", "evaluation", "export_folder", "model", "recipe",
        "report", "run_folder", "world", *BASE,
    },
    "commands/terminal": {"data/batch", "export_folder", "model", "run_folder", "training", "world", *BASE},
    "assemble": {"recipe", "settings", "data", "model", "training", "world", *BASE},
    "deploy": {"model", "data/read", "world", *BASE},
    "deploy/export": {"deploy", "data/read", "export_folder", "model", "world", *BASE},
    "deploy/server": {"deploy", "data/read", "world", *BASE},
    "training": {"settings", "world", *BASE},
    "evaluation": {"world", *BASE},
    "data/batch": {"data/augment", "data/read", "settings", "world", *BASE},
    "data/augment": {"data/read", "settings", "world", *BASE},
    "data/split": {"data/look", "world", *BASE},
    "data/look": {"data/read", "data/table", "world", *BASE},
    "data/table": {"data/read", *BASE},
    "data/read": {"locks", "world", *BASE},
    "cluster": BASE,
    "data": set(),
    "report": {"run_folder", "evaluation", *BASE},
    "model": BASE,
    "recipe": {"settings", *BASE},
    "settings": set(),
    "world": BASE,
    "run_folder": {"locks", "result_format", *BASE},
    "export_folder": BASE,
    "locks": {"errors"},
    "result_format": {"errors"},
    "storage": {"errors"},
    "errors": set(),
}  # fmt: skip
OWNERS = {
    "timm": {"model/backbone.py", "model/pretrained.py"},
    "yaml": {"recipe/yaml_text.py"},
    "matplotlib": {"report/figures.py"},
    "typer": {
        "cli.py", "experiment_cli.py", "export_cli.py", "options.py", "recipes_cli.py", "serve_cli.py",
        "weights_cli.py",
    },
    "polars": {"data/table/read.py", "deploy/parquet.py"},
    "cv2": {"data/augment/fused.py", "data/read/beyond.py"},  # the second for PNGs of 16 bits a colour
    "tifffile": {"data/read/tiff.py"},
    "openvino": {"deploy/openvino_engine.py", "deploy/export/openvino_file.py"},
    "nncf": {"deploy/export/int8.py"},
    "onnx": {"deploy/export/onnx_file.py"},
    "starlette": {"deploy/server/app.py", "deploy/server/guard.py", "deploy/server/uploads.py"},
    "uvicorn": {"deploy/server/connection.py", "deploy/server/process.py"},
    "httptools": {"deploy/server/connection.py"},
    "python_multipart": {"deploy/server/uploads.py"},
    "prometheus_client": {"deploy/server/metrics.py"},
    "ray": {"cluster/ray_connection.py", "cluster/ray_pieces.py", "cluster/ray_search.py", "cluster/ray_tasks.py"},
    "fsspec": {"deploy/stored.py"},
    "pyarrow": {"deploy/stored.py"},
    "submitit": {"cluster/slurm_jobs.py"},
    "onnxruntime": {"deploy/export/onnx_file.py"},
}  # fmt: skip


def files():
    return sorted(SOURCE.rglob("*.py"))


def imports(path):
    """(module, line) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "fieldguide" else []
            for name in names or [node.module]:
                yield name, node.lineno


def room_of(parts):
    """The innermost room of the table that these parts of a module's name lie in."""
    inner = "/".join(parts[:2])
    return inner if inner in MAY_IMPORT else parts[0]


def room(path):
    return room_of(path.relative_to(SOURCE).with_suffix("").parts)


def may_import(own, target):
    return target == own or bool({target, target.split("/")[0]} & MAY_IMPORT[own])


def module(path):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_the_table_allows(path):
    own = room(path)
    assert own in MAY_IMPORT, f"{own} is a room that ARCHITECTURE.md does not know"
    for name, line in imports(path):
        if name.startswith("fieldguide."):
            target = room_of(name.split(".")[1:])
            assert may_import(own, target), f"{path}:{line}: {own} may not import {target}"


def test_an_inner_room_keeps_the_table_of_its_own():
    assert may_import("data/batch", "data/augment") and not may_import("data/augment", "data/batch")
    assert may_import("commands/trial", "data/read") and not may_import("deploy", "data/batch")
    assert {room(path) for path in files() if path.name != "__init__.py"} == set(MAY_IMPORT) - {"__init__", "data"}


def test_nothing_imports_in_a_circle():
    known = {module(path) for path in files()}
    graph = {
        module(path): {n for n, _ in imports(path) if n in known}
        | {n.rpartition(".")[0] for n, _ in imports(path)} & known
        for path in files()
        if path.name != "__init__.py"
    }

    in_no_circle = set()

    def walk(name, way):
        assert name not in way, " -> ".join((*way, name))
        if name in in_no_circle:
            return
        for target in graph.get(name, ()):
            if target != name:
                walk(target, (*way, name))
        in_no_circle.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.slow
@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library):
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in files()
        for name, _ in imports(path)
        if name.split(".")[0] == library
    }
    assert users == OWNERS[library]


def test_only_decode_opens_images():
    users = {path.name for path in files() if "Image.open(" in path.read_text(encoding="utf-8")}
    users -= {"code.py"}  # only shows it to readers of an EXPORT.md
    assert users == {"decode.py"}


def test_only_world_knows_other_processes():
    users = {path for path in files() if "torch.distributed" in path.read_text(encoding="utf-8")}
    assert users == {SOURCE / "world/processes.py"}


def test_no_file_is_called_by_what_it_is_not():
    assert not {path.stem for path in files()} & {"utils", "util", "common", "helpers", "manager", "misc"}


def test_architecture_md_shows_this_table_and_the_way_of_a_training():
    text = (SOURCE.parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w/]+)` \| (.*?) \|$", text, re.MULTILINE))
    for own, allowed in MAY_IMPORT.items():
        if own in ("__init__", "__main__", "data"):
            continue
        written = set(re.findall(r"`([\w/]+)`", rows[own]))
        assert written == allowed, f"ARCHITECTURE.md says {own} may import {sorted(written)}"
    hops = ["cli.py", "commands/train.py", "assemble/", "training/loop.py", "training/step.py"]
    places = [text.index(f"`{hop}`") for hop in hops]
    assert places == sorted(places)
    for path in files():
        name = path.relative_to(SOURCE).as_posix()
        if not name.endswith("__init__.py") and name != "__main__.py":
            assert path.name in text, f"ARCHITECTURE.md does not mention {name}"
