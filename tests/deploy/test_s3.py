"""Photos in S3, from a server of this machine that speaks it."""

import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from fieldguide.data.read.decode import UnreadableError
from fieldguide.deploy import stored
from fieldguide.deploy.stored import Stored, below, url_of

MOTO = os.environ.get("FIELDGUIDE_TEST_MOTO", "")  # a folder that moto[server] was installed into
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not MOTO and importlib.util.find_spec("moto") is None,
        reason="needs moto: pip install --target FOLDER 'moto[server]', and FIELDGUIDE_TEST_MOTO=FOLDER",
    ),
]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def bucket():
    """The address of a bucket with two photos, an archive of two more, and a text."""
    fs = pytest.importorskip("pyarrow.fs", reason="needs pip install 'fieldguide[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join(filter(None, (MOTO, os.environ.get("PYTHONPATH"))))
    own = {"PYTHONPATH": paths, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    own |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = {name: os.environ.get(name) for name in own}
    os.environ |= {name: value for name, value in own.items() if name != "PYTHONPATH"}
    stored._opened.cache_clear()
    try:
        until = time.monotonic() + 60
        while not is_open(port):
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        system = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
        system.create_dir("season")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in ("c.jpg", "d.jpg"):
                member = tarfile.TarInfo(name)
                member.size = 3
                tar.addfile(member, io.BytesIO(name.encode()[:3]))
        files = {"a.jpg": b"one", "site/b.jpg": b"two", "x.tar": archive.getvalue(), "notes.txt": b"text"}
        for name, content in files.items():
            with system.open_output_stream(f"season/new/{name}") as file:
                file.write(content)
        yield "s3://season/new"
    finally:
        server.terminate()
        server.wait(timeout=30)
        stored._opened.cache_clear()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def test_photos_and_archives_of_a_bucket_are_listed_and_fetched(bucket):
    assert url_of("s3:/season/new") == bucket
    found, others = below(bucket, lambda name: name.suffix == ".jpg")
    assert [name for name, _ in found] == ["a.jpg", "site/b.jpg", "x.tar/c.jpg", "x.tar/d.jpg"] and others == 1
    assert [photo.fetch() for _, photo in found] == [b"one", b"two", b"c.j", b"d.j"]
    assert found[0][1].stamp and found[0][1].url == "s3://season/new/a.jpg"
    inside, _ = below(f"{bucket}/x.tar", lambda name: name.suffix == ".jpg")
    assert [name for name, _ in inside] == ["c.jpg", "d.jpg"]


def test_an_object_that_is_not_there_costs_its_row(bucket):
    with pytest.raises(UnreadableError, match="does not exist"):
        Stored(f"{bucket}/none.jpg").fetch()
