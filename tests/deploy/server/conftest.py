"""A server whose engine computes what a test says, and clients as people write them."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.predictor import Predictor
from tests.deploy.made_up import Computes

CLASSES = ("red", "green", "blue")
PREPROCESSING = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Gate:
    """An engine whose logits are a photo's mean colour; it waits while the gate is shut, and counts photos."""

    def __init__(self):
        self.is_open, self.computed, self.fault = threading.Event(), 0, None
        self.is_reached = threading.Event()  # by photos, open or shut
        self.is_open.set()

    def __call__(self, images):
        self.is_reached.set()
        assert self.is_open.wait(20)
        if self.fault:
            raise self.fault
        self.computed += len(images)
        return images.mean((2, 3)).numpy().astype(np.float32)  # (batch, 3)


@pytest.fixture
def gate():
    return Gate()


def predictor_of(gate):
    """A predictor of colours; photos of over a megapixel are bombs to it."""
    return Predictor(Computes(gate, batch_size=8), CLASSES, PREPROCESSING, max_megapixels=1)


@pytest.fixture
def predictor(gate):
    return predictor_of(gate)


def jpeg(number, size=(40, 30)):
    """A photo of a colour of its own."""
    color = np.random.default_rng(number).integers(0, 256, 3)
    pixels = np.broadcast_to(color, (size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


class Client:
    """One connection to a server."""

    is_kept = False  # whether the next request takes the same connection

    def __init__(self, port, **headers):
        self.headers = headers
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, method, path, body=None, **headers):
        """(status, JSON or text, headers)."""
        named = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        self.connection.request(method, path, body, named)
        answer = self.connection.getresponse()
        content = answer.read()
        if not self.is_kept:
            self.connection.close()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content.decode(), answer.headers

    def predict(self, body, path="/predict", **headers):
        return self.ask("POST", path, body, **{"Content_Type": "image/jpeg", **headers})

    def send_files(self, files, path="/predict"):
        """Files of a form: (name, content) each."""
        return self.ask("POST", path, form(files), Content_Type="multipart/form-data; boundary=xyz")


def form(files):
    parts = b"".join(
        f'--xyz\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in files
    )
    return parts + b"--xyz--\r\n"


@contextlib.contextmanager
def served(predictor, **options):
    """A running server; its `limits` and the rest of a `Service` may be given."""
    from fieldguide.deploy.server.app import Service
    from fieldguide.deploy.server.limits import Limits
    from fieldguide.deploy.server.process import Running

    limits = Limits(**options.pop("limits", {}))
    own = socket.create_server(("127.0.0.1", 0))
    told = []
    running = Running(Service(predictor, "colours", "1.2", limits=limits, **options), own, told.append)
    running.told = told
    try:
        yield running
    finally:
        running.stop(lambda: False)
        own.close()


def until(condition, seconds=10):
    """Waits for what another thread does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def head_of(path="/predict", **headers):
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        *(f"{name.replace('_', '-')}: {v}" for name, v in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def raw(port, *pieces, pause=0.0, half=False):
    """What a socket gets back that sends these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer came before the end
                connection.sendall(piece)
            time.sleep(pause)
        got = b""
        while piece := connection.recv(65536):
            got += piece
            if not half and b"\r\n\r\n" in got and got.endswith(b"}"):
                break
        return got
