"""Where the figures of an evaluation are kept, and how looks at the test photos are counted."""

import fcntl
import json
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fieldguide import UsageError, evaluate, resume
from fieldguide.commands import evaluate as command
from fieldguide.commands.judging import looks
from fieldguide.run_folder import RunFolder
from tests.commands.by_the_report import train


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
        with pytest.raises(UsageError, match=f"json_file {place}: .*{words}"):
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
    assert found.remarks[-1].startswith(f"{run}: cannot keep these figures") and "Permission denied" in shown
    assert (
        shown.index("test accuracy") < shown.index("cannot keep these figures")
        and (run / "result.json").read_bytes() == before
    )
    monkeypatch.setattr(looks, "write_report", refusing(UsageError("report.html: cannot be written")))
    found = evaluate(run, trained[0], quiet=True)
    assert "report.html: not updated with these figures" in found.remarks[-1]
    assert result_of(run)["test_evaluations"] == 1


def test_a_bundle_in_its_run_is_judged_as_the_run(trained, run, tmp_path):
    photos = Path(shutil.copytree(trained[0], tmp_path / "photos"))
    shutil.copy(photos / "train/2/001.png", photos / "test/2/renamed.png")
    found = evaluate(run / "bundle", photos, quiet=True)
    assert any("test/2/renamed.png is train/2/001.png" in remark for remark in found.remarks)
    assert result_of(run)["test_evaluations"] == 1 and result_of(run)["test"]["images"] == 10
    assert "evaluated once for this run" in (run / "report.html").read_text()


def test_a_look_at_the_test_photos_that_nothing_counts_is_told(trained, run, tmp_path):
    shutil.copytree(run / "bundle", tmp_path / "elsewhere")
    (run / "result.json").unlink()
    for path, why in ((tmp_path / "elsewhere", "is a bundle without its run"), (run, "has no result yet")):
        found = evaluate(path, trained[0], quiet=True)
        assert found.remarks[-1].startswith(f"{path}: {why}, so this evaluation on test photos is not counted")


@pytest.mark.slow
def test_looks_at_the_test_photos_stay_counted_where_the_training_goes_on(trained, run):
    evaluate(run, trained[0], quiet=True)
    longer = resume(run, overrides=["training.more_epochs=1"], quiet=True)
    assert longer.result["test"] is None and longer.result["test_evaluations"] == 1
    assert result_of(run) == longer.result
    assert "evaluated once for this run, before it was trained longer" in (run / "report.html").read_text()
    evaluate(run, trained[0], quiet=True)
    assert result_of(run)["test_evaluations"] == 2 and result_of(run)["test"]["images"] == 9
    again = resume(run, overrides=["training.more_epochs=1"], quiet=True)
    assert again.result["test_evaluations"] == 2


@pytest.mark.slow
def test_a_stopped_run_that_was_judged_stays_counted_when_it_goes_on(trained, small, tmp_path, at_step):
    at_step(7, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(trained[0], output=tmp_path / "run", overrides=small, quiet=True).exit_code == 143
    evaluate(tmp_path / "run", trained[0], quiet=True)
    done = resume(tmp_path / "run", quiet=True)
    assert done.exit_code == 0 and done.result["test"] is None and done.result["test_evaluations"] == 1


def test_looks_of_several_processes_at_once_are_all_counted(run, monkeypatch):
    """Of threads here: the lock is that of an open file, so that they wait for each other as processes do."""
    read, flock, asked, first = RunFolder.read_result, fcntl.flock, threading.Semaphore(0), []

    def asking(*arguments):
        asked.release()
        return flock(*arguments)

    def read_when_all_have_asked(self):
        result = read(self)  # whoever does not wait has read the same count
        if not first:
            first.append(self)
            assert all(asked.acquire(timeout=60) for _ in range(4)), "some do not ask for the lock"
        return result

    (run / "report.html").unlink()
    monkeypatch.setattr("fcntl.flock", asking)
    monkeypatch.setattr(RunFolder, "read_result", read_when_all_have_asked)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda number: looks._keep_in_run(run, {"accuracy": number}), range(12)))
    assert told == [[]] * 12 and result_of(run)["test_evaluations"] == 12
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_where_there_are_no_locks_a_look_is_counted_as_before(run, monkeypatch):
    monkeypatch.setattr("fcntl.flock", refusing(OSError(95, "Operation not supported")))
    (run / "report.html").unlink()
    assert looks._keep_in_run(run, {"accuracy": 1}) == [] and result_of(run)["test_evaluations"] == 1
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_a_damaged_result_counts_no_look(run):
    assert RunFolder(run).test_evaluations() == 0
    for name, content in (("1", '{"test_evaluations": 3}'), ("2", "{torn"), ("3", "[1]"), ("4", '{"a": 1}')):
        (run / f"result.before-{name}.json").write_text(content)
    assert RunFolder(run).test_evaluations() == 3
