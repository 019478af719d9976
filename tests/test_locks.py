import errno
import os
import platform
import signal
import subprocess
import sys
import threading

import pytest

from fieldguide.errors import UsageError
from fieldguide.locks import held, take, turn


def test_a_lock_is_held_by_one_and_goes_with_it(tmp_path):
    path = tmp_path / ".lock"
    with held(path, "the run"):
        told = f"the run: another process is using it .process {os.getpid()} on"
        with pytest.raises(UsageError, match=told), held(path, "the run"):
            pytest.fail("held twice")
        assert path.exists()
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), held(path, "the run"):
        raise ZeroDivisionError
    with held(path, "the run"):
        pass


CHILD = """
import os, signal, sys
from pathlib import Path
from fieldguide.locks import held
with held(Path(sys.argv[1]), "the run"):
    if os.fork() == 0:
        print(os.getppid(), flush=True)  # by the child, so that it has let go of the lock
        signal.pause()  # a worker that outlives its parent
    signal.pause()
"""


def test_a_dead_process_holds_no_lock_even_where_a_child_of_it_lives(tmp_path):
    path = tmp_path / ".lock"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert child.stdout.readline().strip() == str(child.pid).encode()
        with pytest.raises(UsageError, match=f"process {child.pid} on"), held(path, "the run"):
            pytest.fail("held twice")
        child.kill()
        child.wait()
        with held(path, "the run"):
            assert path.read_text().startswith(f"process {os.getpid()} on")
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def test_where_the_file_system_has_no_locks_the_file_tells_who_lives(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    path = tmp_path / ".lock"
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    path.write_text(f"process {int(dead.stdout)} on {platform.node()}\n")
    with held(path, "the run"):
        assert path.exists()
    for holder in (f"process {os.getppid()} on {platform.node()}", "process 1 on another-machine"):
        path.write_text(holder)
        with pytest.raises(UsageError, match=f"another process is using it .{holder}"), held(path, "the run"):
            pytest.fail("held twice")


def test_a_turn_waits_for_the_one_before_and_leaves_no_file(tmp_path):
    path, inside = tmp_path / "turn.lock", []

    def work(number):
        with turn(path):
            inside.append(number)
            inside.append(number)  # side by side, unless another thread came in between

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2] and sorted(inside[::2]) == list(range(40))
    assert not path.exists()


def test_many_may_share_a_lock_and_then_nobody_holds_it_alone(tmp_path):
    path = tmp_path / "pack"
    path.write_text("")
    with path.open() as one, path.open() as two, path.open() as three:
        assert take(one.fileno(), shared=True) and take(two.fileno(), shared=True)
        assert take(three.fileno()) is False
