"""A prediction on several nodes has the rows of the one by a single process, though a node or an actor dies."""

import concurrent.futures
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time

import polars
import pytest

from fieldguide import predict
from tests.conftest import write_photo
from tests.torture.runner import ROOT

HOW = {"top": 2, "unsure_below": 0.6, "engine": "plain"}
MOTO = os.environ.get("FIELDGUIDE_TEST_MOTO", "")  # a folder that moto[server] was installed into
needs_moto = pytest.mark.skipif(
    not MOTO and importlib.util.find_spec("moto") is None,
    reason="needs moto: pip install --target FOLDER 'moto[server]', and FIELDGUIDE_TEST_MOTO=FOLDER",
)
pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")


def made(folder, count):
    """So many photos, of which one is damaged."""
    for number in range(count):
        write_photo(folder / f"{number:05d}.png", number % 2, 9000 + number)
    (folder / "00007.png").write_bytes(b"no photo")
    return folder


def rows_here(run, photos, file):
    """The rows of a single process."""
    predict(run, photos, file, quiet=True, **HOW)
    return polars.read_parquet(file)


def on_nodes(run, source, output, kill, *, piece_photos, after=1, timeout=400, **environment):
    """What the prediction says, and its rows."""
    job = {"run": str(run), "source": str(source), "output": str(output), "kill": kill, "how": HOW}
    job |= {"piece_photos": piece_photos, "after": after, "told": str(output.with_name("told.json"))}
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0", **environment}
    command = [sys.executable, "-m", "tests.torture.nodes", json.dumps(job)]
    done = subprocess.run(command, env=os.environ | own, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = polars.concat([polars.read_parquet(file) for file in sorted(output.glob("*.parquet"))])
    return json.loads(output.with_name("told.json").read_text()), rows


@pytest.mark.slow
def test_a_node_that_dies_costs_no_row(trained, tmp_path):
    photos, run = made(tmp_path / "photos", 320), trained[1].path
    here = rows_here(run, photos, tmp_path / "here.parquet")
    told, rows = on_nodes(run, photos, tmp_path / "out", "node", piece_photos=32)
    assert told["kill"] == "node" and told["files"] < 10 and told["rows"] == 320 and told["failed"] == 1
    assert rows.equals(here) and rows.write_csv() == here.write_csv()
    assert not (tmp_path / "out/_tries").exists()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def failing_s3(tmp_path):
    """(what to set in the environment, the file that gets a byte for each failure): a server of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    own |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (MOTO, *sys.path)))}
    command = [sys.executable, "-m", "tests.torture.failing_s3", str(port), str(tmp_path / "failures")]
    with open(tmp_path / "s3.log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | own | paths, cwd=ROOT, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while not is_open(port):
            assert server.poll() is None and time.monotonic() < until, (tmp_path / "s3.log").read_text()
            time.sleep(0.2)
        yield own, tmp_path / "failures"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.torture
@needs_moto
def test_five_thousand_photos_of_a_storage_that_fails_now_and_then(trained, failing_s3, tmp_path):
    from pyarrow.fs import S3FileSystem

    photos, run = made(tmp_path / "photos", 5000), trained[1].path
    here = rows_here(run, photos, tmp_path / "here.parquet")
    environment, failures = failing_s3
    system = S3FileSystem(
        access_key="test", secret_key="test", scheme="http", allow_bucket_creation=True,
        endpoint_override=environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
    )  # fmt: skip
    system.create_dir("season")

    def upload(photo):
        with system.open_output_stream(f"season/{photo.name}") as file:
            file.write(photo.read_bytes())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, sorted(photos.iterdir())))
    before = failures.stat().st_size
    how = {"piece_photos": 512, "after": 2, "timeout": 1500, **environment}
    told, rows = on_nodes(run, "s3://season", tmp_path / "out", "actor", **how)
    print(told, failures.stat().st_size - before, "requests failed")
    assert told["kill"] == "actor" and told["files"] < 10 and told["rows"] == 5000 and told["failed"] == 1
    assert failures.stat().st_size - before >= 500
    assert rows.equals(here) and rows.write_csv() == here.write_csv()
