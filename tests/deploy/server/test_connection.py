"""Clients that are slow or deaf, and what else they send than a request."""

import contextlib
import json
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


@pytest.mark.parametrize("begin", [b"POST /predict HTTP/1.1\r\nX: ", b"POST /", head_of()[:-2]])
def test_a_head_without_an_end_is_refused(predictor, begin):
    with served(predictor, limits={"head_bytes": 1000}) as server:
        got = raw(server.port, begin, *[b"x:" + b"a" * 500] * 3, pause=0.1, half=True)
        assert got.startswith(b"HTTP/1.1 400")


def test_a_trailer_without_an_end_is_refused(predictor):
    head = head_of(Transfer_Encoding="chunked", Content_Type="image/jpeg")
    with served(predictor, limits={"head_bytes": 1000}) as server:
        got = raw(server.port, head, b"1\r\nx\r\n0\r\n", *[b"x: " + b"a" * 500 + b"\r\n"] * 3, pause=0.1, half=True)
        assert got.startswith(b"HTTP/1.1 400")


def test_a_body_in_small_pieces_is_no_long_head(predictor):
    photo = jpeg(1)
    pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (photo[n : n + 9] for n in range(0, len(photo), 9))]
    with served(predictor, limits={"head_bytes": 200}) as server:
        head = head_of(Transfer_Encoding="chunked", Content_Type="image/jpeg")
        got = raw(server.port, head, *pieces, b"0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200")
        assert b'"status":"ok"' in got


def test_a_client_that_asks_for_another_protocol_is_answered_in_this_one(predictor):
    """As Java's client does, which offers HTTP/2 with each first request."""
    with served(predictor) as server:
        client = Client(server.port)
        client.is_kept = True
        offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAA"}
        for _ in range(2):
            status, answer, _ = client.predict(jpeg(1), **offer)
            assert (status, answer["predictions"][0]["status"]) == (200, "ok")
        assert client.ask("GET", "/v2/health/ready", **offer)[0] == 200
        client.is_kept = False
        assert client.predict(jpeg(1))[0] == 200


def test_requests_sent_at_once_are_answered_in_their_order(predictor):
    photos = [jpeg(number) for number in range(5)]
    sent = b"".join(head_of(Content_Length=len(photo)) + photo for photo in photos)
    with served(predictor) as server:
        each = [Client(server.port).predict(photo)[1]["predictions"][0]["top"] for photo in photos]
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(sent)
            got = b""
            while got.count(b"HTTP/1.1 200") < 5 or not got.endswith(b"}"):
                got += connection.recv(65536)
        bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in got.split(b"HTTP/1.1 200")[1:]]
        assert [body["predictions"][0]["top"] for body in bodies] == each


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS
        b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET \xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        head_of(Content_Length=5, Transfer_Encoding="chunked") + b"0\r\n\r\n",  # two lengths: smuggling
        head_of(Content_Length=5)[:-2] + b"Content-Length: 6\r\n\r\n",
        head_of(Content_Length=-5),
        head_of(Transfer_Encoding="chunked") + b"zz\r\n",
    ],
)
def test_what_is_no_http_gets_400(predictor, bytes_sent):
    with served(predictor) as server:
        assert raw(server.port, bytes_sent, half=True).startswith(b"HTTP/1.1 400")
        assert not server.told
        assert Client(server.port).predict(jpeg(1))[0] == 200
