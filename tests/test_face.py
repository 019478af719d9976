"""What a user of the library meets first: names, versions, words of errors, and where messages go."""

import importlib
import importlib.machinery
import inspect
import io
import logging
import subprocess
import sys
import types

import pytest
import torch
import typer
from rich.console import Console

import fieldguide
from fieldguide import FieldguideError, UsageError, world
from fieldguide.cli import app
from fieldguide.commands.terminal import screen as screens
from fieldguide.commands.terminal.exit_code import exit_code_of
from fieldguide.commands.terminal.screen import Screen
from fieldguide.errors import worded


def test_every_public_name_is_there_sorted_and_shown_by_dir():
    assert fieldguide.__all__ == sorted(fieldguide.__all__) and dir(fieldguide) == fieldguide.__all__
    for name in fieldguide.__all__:
        assert getattr(fieldguide, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        fieldguide.trian  # noqa: B018


def test_looking_at_the_names_imports_nothing_heavy():
    code = "import fieldguide, sys; dir(fieldguide), fieldguide.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_is_that_of_the_package():
    done = subprocess.run([sys.executable, "-m", "fieldguide", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fieldguide {fieldguide.__version__}\n" and fieldguide.__version__[0].isdigit()


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("-o runs/a: is a file", "output runs/a: is a file"),
        ("--unsure-below 2: must be above 0", "unsure_below 2: must be above 0"),
        ("add --set data.leaks=drop (drops them)", 'add overrides=["data.leaks=drop"] (drops them)'),
        ("--set nonsense: must be FIELD=VALUE", "overrides nonsense: must be FIELD=VALUE"),
        ("--resume runs/a: is finished", "run runs/a: is finished"),
        ("pass --weights none; choose another -o", "pass weights none; choose another output"),
        ("it: fieldguide train --resume a -o b; or not", "it: fieldguide train --resume a -o b; or not"),
        ("x-o/y--json/a -out: is a path", "x-o/y--json/a -out: is a path"),
    ],
)  # fmt: skip
def test_errors_speak_of_arguments_to_the_library_and_of_flags_to_the_command_line(typed, called, capsys):
    error = UsageError(typed)
    assert str(error) == worded(typed) == error.problems[0] == called

    def command():
        raise UsageError(typed)

    assert exit_code_of(command) == 2 and capsys.readouterr().err == f"error: {typed}\n"
    assert str(FieldguideError(typed)) == called  # and the library is spoken to again


def test_what_an_error_calls_a_flag_is_an_argument_of_the_function():
    functions = {
        "train": {"resume": fieldguide.resume, "processes": None},  # which the command line alone starts
        "evaluate": {}, "predict": {}, "compare": {}, "check": {},
        "experiment": {"recipe": None},  # where it is the argument `recipes`
    }  # fmt: skip
    commands = typer.main.get_command(app).commands
    for name, others in functions.items():
        for option in commands[name].params:
            flag = next((text for text in option.opts if text == "-o" or text.startswith("--")), None)
            function = others.get(option.name, getattr(fieldguide, name))
            if flag and function:
                called = worded(flag)
                assert called in inspect.signature(function).parameters, (name, flag, called)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "auto"])
def test_a_device_may_be_torchs_own(device):
    assert world.choose_device(device).type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="device meta: must be auto, cpu, cuda:N or mps"):
        world.choose_device(torch.device("meta"))


def test_a_quiet_screen_gives_its_messages_to_logging_and_nothing_to_the_terminal(caplog, capfd):
    caplog.set_level(logging.INFO, logger="fieldguide")
    quiet, loud = Screen(quiet=True), Screen()
    quiet.say("reading 3 photos, 100 %")
    quiet.warn("add --set data.leaks=drop")
    assert capfd.readouterr() == ("", "")
    loud.say("seen")
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("fieldguide", "INFO", "reading 3 photos, 100 %"),
        ("fieldguide", "WARNING", 'add overrides=["data.leaks=drop"]'),
    ]


def test_a_quiet_screen_is_quiet_where_nobody_set_logging_up():
    code = "from fieldguide.commands.terminal.screen import Screen; Screen(quiet=True).warn('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook brings along, as far as rich uses it; gives what was shown."""
    shown = []

    class Output:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def clear_output(self, wait):
            shown.append("anew")

        def close(self):
            shown.append("closed")

    def module(name, **content):
        made = types.ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    module("IPython", display=module("IPython.display", display=lambda what: shown.append(what)))
    module("ipywidgets", Output=Output)
    return shown


def console(**options):
    return Console(force_jupyter=True, file=io.StringIO(), **options)


def test_progress_is_shown_in_a_notebook(notebook):
    screen = Screen(console())
    assert screen.is_live
    with screen.counting("predicting", 3) as advance:
        advance(3)
    assert "anew" in notebook and "closed" in notebook


def test_a_notebook_without_widgets_gets_lines_and_no_warning(notebook, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipywidgets")
    monkeypatch.setattr(screens.importlib.util, "find_spec", lambda name: None)
    screen = Screen(console())
    assert not screen.is_live
    with screen.counting("predicting", 3) as advance:
        advance(3)
    assert "anew" not in notebook and not Screen(console(quiet=True)).is_live
