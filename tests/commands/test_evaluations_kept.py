"""Where the figures of an evaluation are kept, and how looks at the test photos are counted."""

import json
import shutil
from pathlib import Path

import pytest

from fieldguide import UsageError, evaluate
from fieldguide.commands import evaluate as command
from fieldguide.run_folder import RunFolder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the small run that may be changed."""
    return Path(shutil.copytree(trained[1].path, tmp_path / "run"))


def result_of(run):
    return json.loads((run / "result.json").read_text())


def refusing(error):
    def refuse(*_, **__):
        raise error

    return refuse


def test_a_json_that_cannot_be_written_is_told_before_the_model_is_loaded(tmp_path):
    for place, words in ((tmp_path, "is a folder"), (Path("/proc/x.json"), "cannot be written"), ("no/x", "no folder")):
        with pytest.raises(UsageError, match=f"--json {place}: .*{words}"):
            evaluate(tmp_path / "no-run", tmp_path, json_file=place, quiet=True)


def test_where_the_json_fails_after_all_the_figures_were_shown_and_the_run_has_them(
    trained, run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command, "write_json", refusing(OSError(28, "No space left on device")))
    with pytest.raises(UsageError, match=r"f\.json: cannot be written \(No space left on device\)"):
        evaluate(run, trained[0], json_file=tmp_path / "f.json")
    result = result_of(run)
    assert f"test accuracy {result['test']['accuracy']:.4f}" in capsys.readouterr().out
    assert result["test_evaluations"] == 1


def test_a_run_that_cannot_be_written_loses_no_figure_and_it_is_told(trained, run, tmp_path, capsys, monkeypatch):
    before = (run / "result.json").read_bytes()
    with monkeypatch.context() as closed:
        closed.setattr(RunFolder, "write_result", refusing(PermissionError(13, "Permission denied")))
        found = evaluate(run, trained[0], json_file=tmp_path / "f.json")
    shown = " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "f.json").read_text()) == found.figures and found.exit_code == 0
    assert found.remarks[-1].startswith(f"{run}: keeps neither these figures") and "Permission denied" in shown
    assert shown.index("test accuracy") < shown.index("keeps neither") and (run / "result.json").read_bytes() == before
    monkeypatch.setattr(command, "write_report", refusing(UsageError("report.html: cannot be written")))
    found = evaluate(run, trained[0], quiet=True)
    assert "report.html: does not tell of these figures" in found.remarks[-1]
    assert result_of(run)["test_evaluations"] == 1
