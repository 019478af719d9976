"""The check for machines with a GPU: what it makes of outcomes. CI runs all of it on a CPU."""

import json
import sys

import pytest

from tests.gpu_check import __main__ as program
from tests.gpu_check import checks, speeds


def passes(where):
    return f"on {where.device}"


def fails(where):
    raise AssertionError("logits differ")


def lacks(where):
    raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")


@pytest.mark.parametrize(("found", "code"), [({"a": passes, "b": lacks}, 0), ({"a": passes, "b": fails}, 1)])
def test_a_failed_check_is_the_exit_code_and_all_are_in_json_and_markdown(tmp_path, monkeypatch, found, code):
    monkeypatch.setattr(checks, "CHECKS", found)
    row = {"preset": "resnet50-adam", "exact": 812.34, "bare step": None}
    monkeypatch.setattr(speeds, "measure", lambda *_: {"rows": [row], "remarks": ["DALI: not run"]})
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "-o", str(tmp_path / "out")])
    monkeypatch.setenv("FIELDGUIDE_CACHE", "unchanged")
    assert program.main() == code
    kept = json.loads((tmp_path / "out/gpu-check.json").read_text())
    assert kept["checks"]["a"]["outcome"] == "passed" and kept["checks"]["a"]["told"] == "on cpu"
    text = (tmp_path / "out/gpu-check.md").read_text()
    assert "| resnet50-adam | 812.3 |  |" in text and "- DALI: not run" in text
    expected = (
        "| b | failed | AssertionError: logits differ |" if code else "| b | not run | needs pydantic: pip install . |"
    )
    assert expected in text


def test_where_torch_sees_no_gpu_it_says_what_to_do(monkeypatch, capsys):
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
