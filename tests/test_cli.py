"""The program as a person types it, in a process of its own."""

import errno
import io
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fieldguide.cli import app
from fieldguide.commands.cache import cache
from fieldguide.commands.recipes import copy_recipe
from fieldguide.commands.terminal.exit_code import exit_code_of
from fieldguide.commands.trial.request import read_request
from fieldguide.errors import UsageError
from fieldguide.options import loading
from fieldguide.report.write import report
from fieldguide.run_folder import RunFolder

COMMANDS = [
    "check",
    "train",
    "report",
    "evaluate",
    "predict",
    "export",
    "serve",
    "experiment",
    "compare",
    "env",
    "recipes",
    "recipes show",
    "recipes copy",
]


def fieldguide(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fieldguide", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"}, **options,
    )  # fmt: skip


def in_this_process(*arguments):
    """The same without the seconds that a new process takes to import its libraries."""
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100"})


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['fieldguide', '--help']\n"
        "from fieldguide.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'numpy', 'PIL', 'matplotlib', 'sklearn', 'scipy', 'pydantic', 'yaml'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Turn a folder of photos" in done.stdout


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_told_what_takes_time_before_the_first_line(monkeypatch, is_terminal):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stderr", screen)
    with loading():
        assert ("loading PyTorch" in screen.getvalue()) is is_terminal
    assert screen.getvalue().rpartition("\r")[2] == "" and screen.getvalue().endswith("\r" if is_terminal else "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_shows_an_example(command):
    done = fieldguide(*command.split(), "--help")
    assert done.returncode == 0 and f"Example: fieldguide {command.split()[0]}" in done.stdout


@pytest.mark.slow
def test_wrong_usage_ends_with_2():
    assert in_this_process("train").exit_code == 2
    assert in_this_process("trian", "x").exit_code == 2
    done = fieldguide("train", "nowhere", "-o", "runs/x", "--set", "training.sed=1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: training.sed: there is no such field (did you mean seed?)" in done.stderr
    assert "error: nowhere: there is no such folder" in done.stderr


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        f"check {LONG}",
        f"check photos --json {LONG}",
        f"train photos -o {LONG} --weights none",
        f"train {LONG} -o run --weights none",
        f"train --resume {LONG}",
        f"experiment photos -o {LONG} --recipe digits --weights none",
        f"evaluate {LONG} photos",
        f"predict {LONG} photos -o p.csv",
        f"predict run photos -o {LONG}",
        f"compare {LONG}",
        f"report {LONG}",
        f"recipes copy digits {LONG}",
        "cache",
        "cache --clear",
    ],
)
def test_a_name_that_is_too_long_is_a_mistake_of_usage_in_one_line(tmp_path, monkeypatch, make_photos, command):
    make_photos(tmp_path / "photos", {"train/a": 2, "train/b": 2})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIELDGUIDE_CACHE", LONG)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stderr.startswith("error: ") and done.stderr.endswith("(File name too long)\n")
    assert done.stderr.count("\n") == 1 and LONG in done.stderr


def test_a_path_that_nobody_can_look_at_is_a_mistake_of_usage_for_the_library_too(tmp_path, monkeypatch):
    monkeypatch.setenv("FIELDGUIDE_CACHE", str(tmp_path / LONG))
    run = RunFolder(tmp_path / LONG)
    for look in (run.read_result, run.demand_nothing_in_it, lambda: report(run.path), lambda: read_request(run), cache):
        with pytest.raises(UsageError, match=r"cannot be read \(File name too long"):
            look()
    with pytest.raises(UsageError, match=r"cannot be written \(File name too long"):
        copy_recipe("digits", tmp_path / LONG)


def test_a_recipe_whose_backbone_does_not_exist_is_a_mistake_of_usage_when_it_is_shown(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {backbone: resnet34.tv_in1}\n")
    done = CliRunner().invoke(app, ["recipes", "show", str(tmp_path / "mine.yaml")])
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stderr.startswith("error: model.backbone: timm has resnet34, but no weights 'tv_in1'; it has")


def test_a_place_that_can_only_be_read_is_told_in_one_line(capsys):
    def command():
        raise OSError(errno.EROFS, "Read-only file system", "/mnt/x")

    assert exit_code_of(command) == 2
    assert capsys.readouterr().err == (
        "error: /mnt/x: cannot be written (Read-only file system); choose a writable place\n"
    )


def test_recipes_are_listed_shown_and_copied(tmp_path):
    listed = in_this_process("recipes")
    assert listed.exit_code == 0 and len(listed.stdout.splitlines()) >= 6
    shown = in_this_process("recipes", "show", "resnet50-sgd")
    for part in (
        "momentum: 0.9", "25,710,756 parameters (23,508,032 backbone, 2,202,724 head)", "batch normalisation",
        "phase strong: all (25,710,756 parameters)", "linear 2,048 to 1,024",
    ):  # fmt: skip
        assert part in shown.stdout
    assert in_this_process("recipes", "copy", "resnet50-sgd", tmp_path / "mine.yaml").exit_code == 0
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# Method 4 of the report")
    assert in_this_process("recipes", "show", tmp_path / "mine.yaml").stdout.startswith(text.rstrip())
    again = in_this_process("recipes", "copy", "resnet50-sgd", tmp_path / "mine.yaml")
    assert again.exit_code == 2 and "is not overwritten" in again.stderr
    assert in_this_process("recipes", "show", "resnet5-sgd").exit_code == 2


def test_photos_that_stand_in_the_way_end_with_1(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 2, "train/b": 2})
    (photos / "train/a/bad.jpg").write_bytes(b"")
    done = in_this_process("train", photos, "-o", tmp_path / "run", "--weights", "none")
    assert done.exit_code == 1 and "train/a/bad.jpg is empty" in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_main_job_from_train_to_prediction(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2, "test": 3})
    settings = ["model.backbone=test_resnet", "rules.backbones=null", "data.image_size_px=32", "training.max_epochs=2"]
    flags = [part for setting in settings for part in ("--set", setting)]
    flags += ["--recipe", "resnet34-adam"]
    done = fieldguide("train", photos, "-o", tmp_path / "run", "--weights", "none", *flags)
    assert done.returncode == 0, done.stderr
    assert "chosen on these photos" in done.stdout and "phase standard: standard augmentation" in done.stdout
    assert "14 photos" not in done.stdout and "training on 12 photos, validation on 4, 2 classes" in done.stdout
    judged = in_this_process("evaluate", tmp_path / "run", photos)
    assert judged.exit_code == 0 and "val accuracy" in judged.stdout and "95 %" in judged.stdout
    (photos / "test/broken.jpg").write_bytes(b"x")
    predicted = fieldguide("predict", tmp_path / "run", photos / "test", "-o", tmp_path / "p.csv")
    assert predicted.returncode == 3 and len((tmp_path / "p.csv").read_text().splitlines()) == 5


def test_a_reader_who_goes_away_does_no_harm():
    done = subprocess.run(
        f"{sys.executable} -m fieldguide recipes show resnet34-adam | head -n 1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("# Method 1 of the report") and done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("fieldguide recipes >&-", 0, ""),
        ("fieldguide recipes show digits >&- 2>&-", 0, ""),
        ("fieldguide recipes show nowhere 2>&-", 2, ""),
        ("fieldguide recipes > /dev/full", 1, "error: the output cannot be written (No space left on device)\n"),
        ("fieldguide recipes show digits > /dev/full", 1, "error: the output cannot be written"),
        ("fieldguide --help > /dev/full", 1, "error: the output cannot be written"),
        ("fieldguide train --help > /dev/full", 1, "error: the output cannot be written"),
        ("PYTHONUNBUFFERED=1 fieldguide recipes > /dev/full", 1, "error: the output cannot be written"),
    ],
)
def test_an_output_that_is_closed_or_full_ends_without_a_traceback(command, code, told):
    done = subprocess.run(
        ["bash", "-c", command.replace("fieldguide", f"{sys.executable} -m fieldguide")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert done.returncode == code and done.stdout == "", done
    assert done.stderr.startswith(told) and done.stderr.count("\n") == bool(told), done


@pytest.mark.slow
def test_a_closed_pipe_ends_no_command_and_changes_no_exit_code(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2})
    command = f"{sys.executable} -m fieldguide"
    small = "--set model.backbone=test_resnet --set rules.backbones=null --set data.image_size_px=32 --weights none"
    done = subprocess.run(
        ["bash", "-c", f"{command} check {photos} | true; echo ${{PIPESTATUS[0]}};"
         f"{command} train {photos} -o {tmp_path}/run --recipe digits {small} --set training.max_epochs=1 | true;"
         "echo ${PIPESTATUS[0]}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["0", "0"] and "Traceback" not in done.stderr, done
    assert (tmp_path / "run/report.html").exists()
