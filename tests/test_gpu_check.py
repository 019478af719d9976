"""The check for machines with a GPU: what it makes of outcomes. CI runs all of it on a CPU."""

import importlib
import json
import subprocess
import sys
import zipfile

import pytest

from tests.gpu_check import __main__ as program
from tests.gpu_check import checks, speeds, wheels


def passes(where):
    return f"on {where.device}"


def fails(where):
    raise AssertionError("logits differ")


def lacks(where):
    raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")


@pytest.mark.parametrize(("found", "code"), [({"a": passes, "b": lacks}, 0), ({"a": passes, "b": fails}, 1)])
def test_a_failed_check_is_the_exit_code_and_all_are_in_json_and_markdown(
    tmp_path, monkeypatch, path_kept, found, code
):
    monkeypatch.setattr(checks, "CHECKS", found)
    row = {"preset": "resnet50-adam", "exact": 812.34, "bare step": None}
    monkeypatch.setattr(speeds, "measure", lambda *_: {"rows": [row], "remarks": ["DALI: not run"]})
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "-o", str(tmp_path / "out")])
    assert program.main() == code
    kept = json.loads((tmp_path / "out/gpu-check.json").read_text())
    assert kept["checks"]["a"]["outcome"] == "passed" and kept["checks"]["a"]["told"] == "on cpu"
    text = (tmp_path / "out/gpu-check.md").read_text()
    assert "| resnet50-adam | 812.3 |  |" in text and "- DALI: not run" in text
    expected = "| b | failed | AssertionError: logits differ |" if code else "| b | not run | needs pydantic |"
    assert expected in text


def test_where_torch_sees_no_gpu_it_says_what_to_do(monkeypatch, capsys, path_kept):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert program.main() == 2 and "--device cpu" in capsys.readouterr().err


def test_what_begins_after_its_minutes_is_not_run():
    found = program._run("a", passes, None, began=-1e9, minutes=1)
    assert (found["outcome"], found["told"]) == ("not run", "out of time")


def test_a_gpu_is_held_against_the_goals():
    row = {"preset": "x", "fast, from photos": 950.0, "bare step": 1000.0, "plain PyTorch": 900.0}
    assert speeds._against_goals([row]) == [
        "x: fast is 0.950 of the bare step (goal 0.95)",
        "x: fast is 1.056 of plain PyTorch (goal: never below 1)",
    ]


def made_wheel(folder, name, tags="py3-none-any"):
    """A wheel with one module."""
    stem = f"{name}-1.0"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-{tags}.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "ANSWER = 42\n")
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


@pytest.fixture
def path_kept(monkeypatch):
    """The check adds to the path, also to that of processes that it starts."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("FIELDGUIDE_CACHE", "unchanged")


def test_what_a_machine_lacks_is_said_at_once_and_taken_from_wheels(tmp_path, monkeypatch, capsys, path_kept):
    made_wheel(tmp_path / "wheels", "made_up_module")
    made_wheel(tmp_path / "wheels", "numpy")  # is installed, so it is left where it is
    monkeypatch.setattr(wheels, "asked_for", lambda: ["numpy", "made-up-module"])
    monkeypatch.setattr(speeds, "measure", lambda *_: {"rows": [], "remarks": []})
    command = ["gpu_check", "--device", "cpu", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    assert program.main() == 2
    told = capsys.readouterr().err
    assert "this Python lacks made-up-module; collect them" in told and not (tmp_path / "out").exists()

    def uses(where):
        found = subprocess.run(
            [sys.executable, "-c", "import made_up_module as m; print(m.ANSWER)"], capture_output=True
        )
        assert found.stdout == b"42\n" and importlib.import_module("made_up_module").ANSWER == 42
        return "both find it"

    monkeypatch.setattr(checks, "CHECKS", {"a": uses})
    monkeypatch.setattr(sys, "argv", [*command, "--wheels", str(tmp_path / "wheels")])
    assert program.main() == 0
    told = capsys.readouterr().out
    assert "from wheels: made-up-module\n" in told and "both find it" in told


@pytest.mark.parametrize(
    ("tags", "told"), [(None, "there are no wheels in it"), ("cp27-cp27mu-any", "is for cp27, and this is cp3")]
)
def test_wheels_that_do_not_serve_are_refused(tmp_path, monkeypatch, capsys, path_kept, tags, told):
    if tags:
        made_wheel(tmp_path / "wheels", "other_module", tags)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--wheels", str(tmp_path / "wheels")])
    assert program.main() == 2 and told in capsys.readouterr().err


def test_what_is_collected_is_all_that_is_needed_beside_torch_and_nothing_of_torchs():
    names = wheels.needed()
    assert {"pydantic", "pydantic-core", "polars", "scipy", "rich", "typer"} <= set(names)
    assert not {"torch", "torchvision", "timm", "numpy"} & set(names)
    assert not any(name.startswith(("nvidia", "cuda")) for name in names)
