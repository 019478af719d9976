"""Clients that are slow or deaf."""

import contextlib
import socket
import time

import numpy as np
import pytest

from fieldguide.commands.serve import missing_packages
from fieldguide.deploy.predictor import Predictor
from tests.deploy.made_up import Computes
from tests.deploy.server.conftest import PREPROCESSING, Client, form, head_of, jpeg, raw, served, until

if missing := missing_packages():
    pytest.skip(f"needs {', '.join(missing)}: pip install 'fieldguide[serve]'", allow_module_level=True)


def test_slow_clients_are_cut(predictor):
    limits = {"head_seconds": 0.5, "pause_seconds": 0.5, "upload_seconds": 1, "linger_seconds": 0.2}
    with served(predictor, limits=limits) as server:
        assert raw(server.port, b"POST /predict HT", half=True) == b""  # never ends its head
        began = time.monotonic()
        assert raw(server.port, head_of(Content_Length=1000) + b"x").startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as dripping:
            dripping.sendall(head_of(Content_Length=1000))
            answer = b""
            while not answer and time.monotonic() - began < 8:
                dripping.sendall(b"x")  # five a second: never a pause that is too long
                with contextlib.suppress(TimeoutError):
                    answer = dripping.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", server.port)) as lingering:
            lingering.sendall(head_of(Content_Length=4 * 2**30))
            until(lambda: not server._server.server_state.connections)
        assert Client(server.port).predict(jpeg(1))[0] == 200


def test_an_answer_that_nobody_takes_does_not_stay(gate):
    many = Predictor(
        Computes(lambda images: np.zeros((len(images), 15_000), np.float32)), [f"class {n}" for n in range(15_000)],
        PREPROCESSING,
    )  # fmt: skip
    with served(many, limits={"head_seconds": 0.5}) as server:
        body = form([("x", jpeg(1))] * 20)
        head = head_of("/predict?top=15000", Content_Length=len(body), Content_Type="multipart/form-data; boundary=xyz")
        with socket.create_connection(("127.0.0.1", server.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(head + body)
            until(lambda: server.app.batching.waiting == 20)
            until(lambda: not server._server.server_state.connections, 20)
