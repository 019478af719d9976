"""Faults of the machine: a thread that ends, a disk that is full, a process that is killed; and what clients get."""

import contextlib
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from fieldguide.commands.serve import missing_packages
from tests.deploy.server.conftest import Client, Gate, jpeg, predictor_of, served, until

if missing := missing_packages():
    pytest.skip(f"needs {', '.join(missing)}: pip install 'fieldguide[serve]'", allow_module_level=True)


def test_a_computing_thread_that_ends_fails_its_photos_and_begins_again(predictor, gate):
    with served(predictor) as server:
        gate.fault = SystemExit("an exit inside of a runtime")
        status, answer, _ = Client(server.port).send_files([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))])
        assert status == 200
        assert {each["error"] for each in answer["predictions"]} == {"the model failed (SystemExit)"}
        gate.fault = None
        _, answer, _ = Client(server.port).predict(jpeg(3))
        assert answer["predictions"][0]["status"] == "ok"
        assert "the computing thread ended (SystemExit: an exit inside of a runtime) and begins again" in server.told
        assert server._batching.waiting == 0


def test_many_such_ends_leave_room_for_every_photo(predictor, gate):
    with served(predictor) as server:  # more photos than may be decoded ahead, so that a lost place would be missed
        gate.fault = SystemExit()
        for number in range(40):
            Client(server.port).predict(jpeg(number))
        gate.fault = None
        _, answer, _ = Client(server.port).send_files([(f"{number}.jpg", jpeg(number)) for number in range(40)])
        assert {each["status"] for each in answer["predictions"]} == {"ok"}


def test_a_decoder_that_ends_its_thread_fails_its_photo_alone(predictor, monkeypatch):
    with served(predictor) as server:
        original, calls = type(predictor).load, []

        def load(self, photo):
            calls.append(photo)
            if len(calls) == 1:
                raise SystemExit
            return original(self, photo)

        monkeypatch.setattr(type(predictor), "load", load)
        answers = [Client(server.port).predict(jpeg(number))[1]["predictions"][0] for number in range(3)]
    assert [each["status"] for each in answers] == ["failed", "ok", "ok"]
    assert answers[0]["error"] == "cannot be decoded (SystemExit)"


def child():
    """A server in a process that may write no byte to a disk; `python -m tests.deploy.server.test_faults` runs it."""
    import resource
    import signal

    gate = Gate()
    with served(predictor_of(gate)) as server:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # as on a full disk, every write of a file fails
        with contextlib.suppress(OSError), tempfile.TemporaryFile(buffering=0) as file:
            file.write(b"x")
            raise SystemExit("a file can be written, so nothing is shown")
        print(server.port, flush=True)
        sys.stdin.readline()
        gate.is_open.clear()
        print("shut", flush=True)
        until(lambda: server._batching.waiting > 0, 60)
        print("accepted", flush=True)
        time.sleep(60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no limit for the size of files")
def test_a_full_disk_changes_nothing_and_a_killed_process_cuts_its_connections_at_once(tmp_path):
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.deploy.server.test_faults"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, text=True, **pipes) as process:
        first = process.stdout.readline()
        assert first, process.stderr.read()
        port = int(first)
        large = jpeg(1) + bytes(3_000_000)  # a form of over a megabyte, which others write to a temporary file
        status, answer, _ = Client(port).send_files([("a.jpg", large), ("b.jpg", jpeg(2))])
        assert status == 200 and [each["status"] for each in answer["predictions"]] == ["ok", "ok"]
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "shut\n"
        waiting = Client(port)
        waiting.connection.request("POST", "/predict", jpeg(3), {"Content-Type": "image/jpeg"})
        assert process.stdout.readline() == "accepted\n"
        process.kill()
        began = time.monotonic()
        with pytest.raises((ConnectionError, HTTPException)):
            waiting.connection.getresponse()
        assert time.monotonic() - began < 10


if __name__ == "__main__":
    child()
