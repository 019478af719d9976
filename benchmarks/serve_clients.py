"""Clients that send photos over HTTP as fast as they are answered, on one thread that takes little of the machine.

Each client is one connection with one request at a time. Run by `serve.py`, in a process of its own.
"""

import argparse
import base64
import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

RAW, BASE64 = "raw", "base64"  # the body: the file, or JSON with the file in base64


@dataclass
class Client:
    """A connection; `photo` is the number of the one that it waits for."""

    connection: socket.socket
    photo: int = 0
    began: float = 0.0
    got: bytearray = field(default_factory=bytearray)

    def answer(self) -> bytes | None:
        """The body, once it is whole; raises RuntimeError for another status than 200."""
        head, end, body = self.got.partition(b"\r\n\r\n")
        if not end:
            return None
        if b" 200 " not in head[:20]:
            raise RuntimeError(f"photo {self.photo}: {bytes(self.got[:300])!r}")
        if b"transfer-encoding: chunked" in head.lower():  # Ray Serve's
            return _joined(bytes(body)) if body.endswith(b"\r\n0\r\n\r\n") else None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return bytes(body) if len(body) >= length else None


def _joined(chunks: bytes) -> bytes:
    """The body that chunks of HTTP hold (RFC 9112, section 7.1)."""
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        body, chunks = body + rest[:length], rest[length + 2 :]
    return body


def drive(port: int, requests: Sequence[bytes], clients: int, seconds: float, warm_seconds: float) -> dict[str, object]:
    """Sends requests in turn for so many seconds after the first ones.

    Returns:
        answers (by photo, each distinct body with its count), latencies in s, seconds, photos.
    """
    waiting, turn = selectors.DefaultSelector(), 0
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting.register(connection, selectors.EVENT_READ, Client(connection))
    began = time.perf_counter()
    counted_from, end = began + warm_seconds, began + warm_seconds + seconds
    latencies: list[float] = []
    bodies: dict[int, dict[bytes, int]] = {}
    busy = clients

    def send(client: Client) -> None:
        nonlocal turn
        client.photo, turn = turn % len(requests), turn + 1
        client.began = time.perf_counter()
        client.got.clear()
        client.connection.sendall(requests[client.photo])

    for key in list(waiting.get_map().values()):
        send(key.data)
    while busy:
        for key, _ in waiting.select(60) or _lost(clients):
            client = key.data
            piece = client.connection.recv(1 << 20)
            if not piece:
                raise RuntimeError(f"photo {client.photo}: the connection ended without an answer")
            client.got += piece
            if (body := client.answer()) is None:
                continue
            now = time.perf_counter()
            of_photo = bodies.setdefault(client.photo, {})
            of_photo[body] = of_photo.get(body, 0) + 1
            if counted_from <= now <= end:
                latencies.append(now - client.began)
            if now < end:
                send(client)
            else:
                busy -= 1
                waiting.unregister(client.connection)
                client.connection.close()
    return {"latencies": latencies, "bodies": bodies, "seconds": seconds}


def _lost(clients: int) -> list[tuple[selectors.SelectorKey, int]]:
    raise RuntimeError(f"no answer to any of {clients} clients for 60 s")


def requests_of(photos: Sequence[bytes], kind: str) -> list[bytes]:
    """Whole requests, made before the clock runs."""
    made = []
    for photo in photos:
        body = photo if kind == RAW else json.dumps({"image": base64.b64encode(photo).decode()}).encode()
        media = "image/jpeg" if kind == RAW else "application/json"
        head = (
            f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def main() -> None:
    """Prints latencies and answers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="photos, in the order of their names")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-seconds", type=float, default=3)
    parser.add_argument("--body", choices=(RAW, BASE64), default=RAW)
    options = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(options.folder.iterdir())]
    requests = requests_of(photos, options.body)
    found = drive(options.port, requests, options.clients, options.seconds, options.warm_seconds)
    bodies = {photo: [[json.loads(body), n] for body, n in each.items()] for photo, each in found["bodies"].items()}
    print(json.dumps({**found, "bodies": bodies}))


if __name__ == "__main__":
    main()
