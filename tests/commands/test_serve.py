"""`serve` as a person starts it: its mistakes in one sentence, and a process whose answers are those of `predict`."""

import csv
import gc
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fieldguide.commands import serve as command
from fieldguide.commands.predict import predict
from fieldguide.commands.serve import name_of, serve
from fieldguide.errors import UsageError

IS_THERE = not command.missing_packages()
needs_the_extra = pytest.mark.skipif(not IS_THERE, reason="needs pip install 'fieldguide[serve]'")


def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PACKAGES", ("starlette_x", "uvicorn_x"))
    with pytest.raises(UsageError, match=r"serve needs starlette-x, uvicorn-x: pip install 'fieldguide\[serve\]'"):
        serve(tmp_path / "run")


@needs_the_extra
def test_mistakes_are_named_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.delenv("FIELDGUIDE_TOKEN", raising=False)
    run = tmp_path / "nowhere"
    with pytest.raises(UsageError) as caught:
        serve(run, port=70_000, unsure_below=2, max_upload_mb=0, max_queue=0)
    assert len(caught.value.problems) == 4
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UsageError, match=r"other machines could reach it; give a token of your own"):
            serve(run, host=host)
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(UsageError, match="a token has 16 or more letters"):
        serve(run, token_file=tmp_path / "token")
    with pytest.raises(UsageError, match=r"no.token: cannot be read \(No such file"):
        serve(run, token_file=tmp_path / "no" / "token")
    monkeypatch.setenv("FIELDGUIDE_TOKEN", "with spaces in it, which is wrong")
    with pytest.raises(UsageError, match="FIELDGUIDE_TOKEN: a token has 16"):
        serve(run)
    monkeypatch.setenv("FIELDGUIDE_TOKEN", "0123456789abcdef")
    with pytest.raises(UsageError, match=r"cannot be taken on 192\.0\.2\.1"):
        serve(run, host="192.0.2.1")
    with pytest.raises(UsageError, match=r"nowhere"):
        serve(run, host="127.0.0.1", port=0)


@needs_the_extra
def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port}: cannot be taken on 127.0.0.1 \(.*port 0 takes one"):
            serve(tmp_path / "run", port=port)


def test_a_model_is_named_after_its_run(tmp_path):
    assert name_of([tmp_path / "first"]) == "first"
    assert name_of([tmp_path / "my run é" / "bundle"]) == "my_run__"
    assert name_of([tmp_path / "a", tmp_path / "b"]) == "ensemble"


@pytest.mark.slow
@needs_the_extra
def test_a_process_answers_as_predict_does_and_ends_with_sigterm_when_all_is_answered(trained, tmp_path):
    from tests.deploy.server.conftest import Client

    photos, run = trained
    files = sorted((photos / "test").rglob("*.png"))
    predict(run.path, photos / "test", tmp_path / "p.csv", top=3, engine="plain", quiet=True)
    rows = {row["image"]: row for row in csv.DictReader((tmp_path / "p.csv").read_text().splitlines())}
    arguments = [run.path, "--port", "0", "--engine", "plain", "--token-file", tmp_path / "token"]
    (tmp_path / "token").write_text("0123456789abcdef\n")
    with subprocess.Popen(
        [sys.executable, "-m", "fieldguide", "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            line = process.stdout.readline()
            found = re.search(
                r"serving .*run \(3 classes, plain\) at http://127.0.0.1:(\d+)/, with the token; stop", line
            )
            assert found, line + process.stdout.read()
            port = int(found[1])

            def ask(file):
                return Client(port, Authorization="Bearer 0123456789abcdef").predict(
                    file.read_bytes(), "/predict?top=3"
                )

            with ThreadPoolExecutor(9) as pool:
                answers = list(pool.map(ask, files * 3))
                late = [pool.submit(ask, file) for file in files]
                process.send_signal(signal.SIGTERM)
                statuses = {each.result()[0] for each in late if each.exception() is None}
            assert statuses <= {200, 503}
            for file, (status, answer, _) in zip(files * 3, answers, strict=True):
                row, top = rows[str(file.relative_to(photos / "test"))], answer["predictions"][0]["top"]
                told = [(each["label"], f"{each['confidence']:.6f}") for each in top]
                kept = [(row[f"label{n}"], float(row[f"confidence{n}"])) for n in ("", "_2", "_3")]
                assert status == 200 and [label for label, _ in told] == [label for label, _ in kept]
                # batches of other sizes are computed in another order: the last of six digits may differ
                assert [float(value) for _, value in told] == pytest.approx([value for _, value in kept], abs=2e-6)
            assert process.wait(20) == 0 and process.stdout.read().splitlines() == [
                "SIGTERM: answering what was accepted; again: stop at once", "stopped",
            ]  # fmt: skip
        finally:
            process.kill()


@needs_the_extra
def test_auto_chooses_its_engine_before_the_server_listens(trained, monkeypatch):
    from fieldguide.deploy.server.process import Running

    found = []
    monkeypatch.setattr(Running, "__init__", lambda self, service, *_: found.append(service) or stop())

    def stop():
        assert gc.get_freeze_count() > 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(trained[1].path, port=0, quiet=True)
    assert gc.get_freeze_count() == 0  # what was kept from the collector of garbage while it served is free again
    predictor, photo = found[0].predictor, next((trained[0] / "test").rglob("*.png"))
    assert predictor.engines != ("",)
    before = predictor.engines
    predictor.predict([photo])  # a single photo, for which `auto` would take plain
    assert predictor.engines == before
