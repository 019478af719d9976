"""What clients get from a server: answers that are `predict`'s, and for each fault a reason."""

import contextlib
import json
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from fieldguide.commands.serve import missing_packages
from tests.deploy.server.conftest import Client, form, head_of, jpeg, raw, served, until

if missing := missing_packages():
    pytest.skip(f"needs {', '.join(missing)}: pip install 'fieldguide[serve]'", allow_module_level=True)


def bomb():
    """A PNG of 4 megapixels, over the model's bound of 1, in a few bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2000, 2000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def expected(predictor, content, top=3):
    [made] = predictor.predict([content], top=top)
    return [{"label": label, "confidence": round(value, 6)} for label, value in made.top]


def test_64_clients_each_get_the_answer_to_their_own_photos(predictor):
    photos = [jpeg(number) for number in range(192)]
    answers = [expected(predictor, photo) for photo in photos]
    assert len({json.dumps(answer) for answer in answers}) > 150  # so that a mixed-up answer is seen

    with served(predictor) as server:

        def client(number):
            own = Client(server.port)
            own.is_kept = True
            with contextlib.closing(own.connection):
                return [own.predict(photos[place]) for place in range(number, 192, 64)]

        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(client, range(64)))
        _, text, _ = Client(server.port).ask("GET", "/metrics")
    for number, own in enumerate(found):
        for place, (status, answer, _) in zip(range(number, 192, 64), own, strict=True):
            assert status == 200 and answer["predictions"][0]["top"] == answers[place]
    assert 'fieldguide_photos_total{status="ok"} 192.0' in text
    assert 'fieldguide_requests_total{path="/predict",status="200"} 192.0' in text
    assert "fieldguide_queue_photos 0.0" in text and "fieldguide_upload_bytes 0.0" in text


def test_a_broken_photo_and_a_bomb_get_their_reasons_beside_the_answers_of_the_others(predictor):
    files = [("a.jpg", jpeg(1)), ("broken.jpg", jpeg(2)[:300]), ("bomb.png", bomb()), ("", b""), ("é ü.jpg", jpeg(3))]
    with served(predictor, unsure_below=0.9999) as server:
        status, answer, _ = Client(server.port).send_files(files)
        alone = Client(server.port).predict(jpeg(1), path="/predict?top=1")[1]["predictions"][0]
    assert status == 200 and answer["model"] == "colours"
    first, broken, large, empty, last = answer["predictions"]
    assert first == {
        "image": "a.jpg", "status": "unsure", "top": expected(predictor, jpeg(1)), **expected(predictor, jpeg(1))[0],
    }  # fmt: skip
    assert broken["image"] == "broken.jpg" and broken["status"] == "failed" and broken["error"].startswith("is cut off")
    assert large["error"] == "has 2,000 x 2,000 pixels, over data.max_megapixels 1"
    assert empty == {"image": None, "status": "failed", "error": "is empty"}
    assert last["image"] == "é ü.jpg" and last["top"] == expected(predictor, jpeg(3))
    assert alone["image"] is None and len(alone["top"]) == 1


def test_above_a_full_queue_there_is_503_and_what_was_accepted_is_answered(predictor, gate):
    gate.is_open.clear()
    with served(predictor, limits={"photos": 3}) as server, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(Client(server.port).predict, jpeg(number)) for number in range(3)]
        until(lambda: server.app.batching.waiting == 3)
        status, answer, headers = Client(server.port).predict(jpeg(4))
        assert (
            status == 503
            and int(headers["retry-after"]) >= 1
            and answer == {"error": "3 photos are waiting; try again"}
        )
        gate.is_open.set()
        assert [each.result()[0] for each in waiting] == [200] * 3
        assert Client(server.port).send_files([("x", jpeg(1))] * 4)[0] == 413
        assert Client(server.port).predict(jpeg(4))[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_kept(predictor):
    with served(predictor, limits={"upload_bytes": 100_000}) as server:
        answer = raw(server.port, head_of(Content_Length=4 * 2**30))
        assert answer.startswith(b"HTTP/1.1 413") and b"over 100,000 bytes" in answer
        chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
        assert raw(server.port, head_of(Transfer_Encoding="chunked"), chunk * 3).startswith(b"HTTP/1.1 413")
        assert raw(server.port, head_of(Content_Length="9" * 5000)).startswith(b"HTTP/1.1 4")
        assert server.app.held.now == 0
        # the rest of a refused body is read for a moment, so that its sender reads why, and then cut
        status, answer, _ = Client(server.port).predict(b"x" * 3_000_000)
        assert status == 413 and "send fewer photos" in answer["error"]
        assert Client(server.port).predict(jpeg(1))[0] == 200


def test_a_body_longer_than_declared_is_no_second_photo(predictor, gate):
    photo = jpeg(1)
    with served(predictor) as server:
        answer = raw(server.port, head_of(Content_Length=len(photo)) + photo + b"more\r\n\r\n", half=True)
        assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 400" in answer
        assert gate.computed == 1


def test_all_uploads_together_are_bounded(predictor):
    with served(predictor, limits={"upload_bytes": 100_000}) as server:
        open_ones = []
        for _ in range(5):  # 4 times the bytes of one are held at once
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(head_of(Content_Length=99_000) + b"x" * 90_000)
            open_ones.append(connection)
        assert open_ones[-1].recv(65536).startswith(b"HTTP/1.1 503")
        until(lambda: server.app.held.now == 4 * 90_000)
        for connection in open_ones:
            connection.close()
        until(lambda: server.app.held.now == 0)


def test_photos_of_clients_that_leave_are_dropped(predictor, gate):
    with served(predictor) as server:
        photo = jpeg(1)
        gate.is_open.clear()
        gate.is_reached.clear()  # the photo that a server computes before it is ready reached it
        first = threading.Thread(target=Client(server.port).predict, args=[photo])
        first.start()
        assert gate.is_reached.wait(20)  # else the second could be computed with it
        gone = socket.create_connection(("127.0.0.1", server.port))
        gone.sendall(head_of(Content_Length=len(photo)) + photo)
        until(lambda: server.app.batching.waiting == 2)
        gone.close()
        halfway = socket.create_connection(("127.0.0.1", server.port))
        halfway.sendall(head_of(Content_Length=len(photo)) + photo[:100])
        until(lambda: server.app.held.now == len(photo) + 100)  # of the first and the third
        halfway.close()
        until(lambda: server.app.held.now == len(photo))
        gate.is_open.set()
        first.join()
        until(lambda: server.app.batching.waiting == 0)
        assert gate.computed == 1 and server.app.held.now == 0
        text = Client(server.port).ask("GET", "/metrics")[1]
    assert 'fieldguide_photos_total{status="dropped"} 1.0' in text
    assert 'fieldguide_requests_total{path="/predict",status="499"} 2.0' in text


def test_a_token_is_needed_by_all_but_the_page_and_the_health(predictor):
    with served(predictor, token=b"secret-secret-secret") as server:
        for path in ("/metrics", "/v2", "/v2/models/colours", "/openapi.json", "/nowhere"):
            status, _, headers = Client(server.port).ask("GET", path)
            assert status == 401 and headers["www-authenticate"] == "Bearer", path
        for wrong in ("Bearer secret", "Bearer secret-secret-secret2", "Basic secret-secret-secret", "Bearer é"):
            assert Client(server.port).predict(jpeg(1), Authorization=wrong.encode("latin-1"))[0] == 401
        for path in ("/", "/page.js", "/page.css", "/v2/health/live", "/v2/health/ready"):
            assert Client(server.port).ask("GET", path)[0] == 200
        right = Client(server.port, Authorization="Bearer secret-secret-secret")
        assert right.predict(jpeg(1))[0] == 200
        assert "securitySchemes" in right.ask("GET", "/openapi.json")[1]["components"]


def test_names_and_pages_of_others_are_refused(predictor):
    with served(predictor, host_names={"localhost", "photos.example"}, page_hosts={"lab.example"}) as server:
        for host, status in {
            "localhost": 200, "LOCALHOST:1": 200, "photos.example.": 200, "127.0.0.1:8000": 200, "[::1]:8000": 200,
            "evil.example": 400, "localhost.evil.example": 400, "": 400, "127.0.0.1.evil.example": 400,
        }.items():  # fmt: skip
            assert Client(server.port).ask("GET", "/v2/health/live", Host=host)[0] == status, host
        for origin, status in {
            "http://localhost": 200, "https://lab.example": 200, "http://localhost:3000": 403, "null": 403,
            "https://evil.example": 403,
        }.items():  # fmt: skip
            got = Client(server.port).predict(jpeg(1), Host="localhost", Origin=origin)
            assert got[0] == status and "access-control-allow-origin" not in got[2], origin


def test_stopping_answers_what_was_accepted_and_refuses_what_comes(predictor, gate):
    gate.is_open.clear()
    with served(predictor) as server, ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(Client(server.port).predict, jpeg(1))
        until(lambda: server.app.batching.waiting == 1)
        stopped = pool.submit(server.stop)
        until(lambda: server.app.batching.is_stopping)
        for answer in (Client(server.port).predict(jpeg(2)), Client(server.port).ask("GET", "/v2/health/ready")):
            assert answer[0] == 503 and answer[1] == {"error": "the server is stopping"} and answer[2]["retry-after"]
        assert Client(server.port).ask("GET", "/v2/health/live")[0] == 200
        gate.is_open.set()
        assert accepted.result()[0] == 200 and stopped.result() == 0 and not server.is_alive
        with pytest.raises(ConnectionRefusedError):
            Client(server.port).predict(jpeg(3))


def test_a_model_that_fails_fails_its_photos_and_the_server_goes_on(predictor, gate):
    with served(predictor) as server:
        gate.fault = RuntimeError("out of order")
        status, answer, _ = Client(server.port).predict(jpeg(1))
        assert status == 200 and answer["predictions"][0]["error"] == "the model failed (RuntimeError)"
        gate.fault = None
        assert Client(server.port).predict(jpeg(1))[1]["predictions"][0]["status"] == "ok"
        assert server.told == ["the model failed: RuntimeError: out of order"]


def test_every_answer_has_security_headers_and_no_path_names_a_file(predictor):
    with served(predictor) as server:
        for path in ("/", "/page.js", "/v2/health/live", "/nowhere", "/../../../etc/passwd", "/%2e%2e/x", "/page.html"):
            status, _, headers = Client(server.port).ask("GET", path)
            assert status == (200 if path in ("/", "/page.js", "/v2/health/live") else 404)
            assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in headers["content-security-policy"] and "server" not in headers
        page = Client(server.port).ask("GET", "/")[1]
        assert "<style" not in page and "<script>" not in page  # the policy allows neither
        assert "#drop" in Client(server.port).ask("GET", "/page.css")[1]
        assert Client(server.port).ask("GET", "/predict")[0] == 405


@pytest.mark.parametrize(
    ("kind", "body", "status", "told"),
    [
        ("application/json", b"{}", 415, "JSON is not a photo"),
        ("image/jpeg", b"", 400, "the request has no body"),
        ("multipart/form-data", b"x", 400, "without a boundary"),
        ("multipart/form-data; boundary=" + "x" * 500, b"x", 400, "cannot be read"),
        ("multipart/form-data; boundary=xyz", b"nonsense", 400, "cannot be read"),
        ("multipart/form-data; boundary=xyz", form([("a", b"x")])[:-8], 400, "cut off"),
        ("multipart/form-data; boundary=xyz", b"--xyz--\r\n", 400, "no files"),
        (
            "multipart/form-data; boundary=xyz",
            form([("a", b"")]).replace(b'filename="a"', b"x"),
            400,
            "'photo' is not a",
        ),
        ("multipart/form-data; boundary=xyz", b"--xyz\r\n" + b"a: " + b"x" * 100_000, 400, "cannot be read"),
    ],
)
def test_bodies_that_are_no_photos_say_what_to_send(predictor, kind, body, status, told):
    with served(predictor) as server:
        got = Client(server.port).predict(body, Content_Type=kind)
    assert got[0] == status and told in got[1]["error"], got


def test_wrong_options_of_a_request_are_named(predictor):
    with served(predictor) as server:
        for wrong in ("0", "4", "x", "-1", "9" * 50):
            status, answer, _ = Client(server.port).predict(jpeg(1), path=f"/predict?top={wrong}")
            assert status == 400 and answer["error"] == "top: must be a whole number from 1 to 3"
