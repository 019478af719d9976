import os
import subprocess
import sys
from pathlib import Path

import pytest

from fieldguide.commands.terminal import allocator


@pytest.fixture
def started(monkeypatch):
    """What would be started in this process's place."""
    calls = []
    monkeypatch.setattr(allocator, "_is_glibc", lambda: True)
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "argv", ["/bin/fieldguide", "train", "a b", "-o", "x"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "/bin/fieldguide", *sys.argv[1:]])
    return calls


@pytest.mark.parametrize(
    "how", [["/bin/fieldguide"], ["-m", "fieldguide"], ["-X", "dev", "-W", "error", "-m", "fieldguide"]]
)
def test_a_command_starts_itself_again_with_the_settings_and_the_same_arguments(started, monkeypatch, how):
    monkeypatch.setattr(sys, "orig_argv", ["python", *how, "train", "a b", "-o", "x"])
    allocator.start_again_with_settings({"HOME": "/h"})
    ((program, arguments, environment),) = started
    assert program == sys.executable and arguments == [sys.executable, *how, "train", "a b", "-o", "x"]
    assert environment == {"HOME": "/h", "GLIBC_TUNABLES": allocator.TUNABLES}


@pytest.mark.parametrize(
    "environment",
    [
        {"GLIBC_TUNABLES": allocator.TUNABLES},
        {"GLIBC_TUNABLES": "glibc.malloc.check=1"},
        {"FIELDGUIDE_ALLOCATOR": "system"},
    ],
)
def test_it_starts_once_and_leaves_a_persons_own_settings_alone(started, environment):
    allocator.start_again_with_settings(environment)
    assert started == []


@pytest.mark.parametrize(
    ("started_with", "program"),
    [
        (["python", "-u", "-c", "serve()"], "/bin/fieldguide"),  # called from a notebook or a test
        (["python", "-", "train", "a b", "-o", "x"], "-"),  # a program that was read from standard input
        (["python", "-c", "main()", "train", "a b", "-o", "x"], "-c"),
    ],
)
def test_a_process_that_was_started_for_something_else_is_left_alone(started, monkeypatch, started_with, program):
    monkeypatch.setattr(sys, "orig_argv", started_with)
    monkeypatch.setattr(sys, "argv", [program, *sys.argv[1:]])
    allocator.start_again_with_settings({})
    assert started == []


def test_elsewhere_than_on_glibc_nothing_happens(started, monkeypatch):
    monkeypatch.setattr(allocator, "_is_glibc", lambda: False)
    allocator.start_again_with_settings({})
    assert started == [] and "outside glibc" in allocator.setting({})


def test_where_it_cannot_start_again_the_command_goes_on_as_it_is(started, monkeypatch):
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise OSError("no")

    monkeypatch.setattr(os, "execve", refuse)
    allocator.start_again_with_settings({})
    assert len(asked) == 1 and started == []


def test_every_state_is_told_apart():
    environments = [{"GLIBC_TUNABLES": allocator.TUNABLES}, {"GLIBC_TUNABLES": "x"}, {"FIELDGUIDE_ALLOCATOR": "system"}]
    told = [allocator.setting(environment) for environment in (*environments, {})]
    assert len(set(told)) == 4


@pytest.mark.skipif(not allocator._is_glibc(), reason="glibc alone has these settings")
def test_glibc_takes_every_setting():
    """glibc passes over what it does not know; its loader lists what it took."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    loader = next((line.split()[-1] for line in lines if "/ld-linux" in line), None)
    if loader is None:
        pytest.skip("the program's loader is not found")
    done = subprocess.run(
        [loader, "--list-tunables"], env={"GLIBC_TUNABLES": allocator.TUNABLES}, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("this glibc does not list its tunables")
    listed = dict(line.split(" (")[0].split(": ") for line in done.stdout.splitlines() if ": " in line)
    for pair in allocator.TUNABLES.split(":"):
        name, _, value = pair.partition("=")
        assert int(listed[name], 16) == int(value), name


@pytest.mark.skipif(not allocator._is_glibc(), reason="glibc alone has these settings")
def test_a_process_that_starts_again_has_the_settings():
    environment = {key: value for key, value in os.environ.items() if key not in (allocator.VARIABLE, allocator.SWITCH)}
    code = (
        "import os, sys; show = 'import os; print(os.environ[\"GLIBC_TUNABLES\"])'\n"
        "sys.argv, sys.orig_argv = ['fieldguide', show], ['python', '-c', show]\n"
        "from fieldguide.commands.terminal.allocator import start_again_with_settings\n"
        "start_again_with_settings(os.environ)\nprint('went on as it was')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == allocator.TUNABLES
