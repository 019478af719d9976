"""A local HTTP server that speaks as much of the Hugging Face Hub's protocol as a download needs."""

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


@dataclass
class Hub:
    """Files by `REPO/resolve/main/NAME`, and what goes wrong.

    `status` answers every request with that; `cut_after` ends the connection after so many bytes of a file, once;
    `short_by` sends so many bytes fewer than it said, and says the smaller length in GET alone.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    cut_after: int | None = None
    short_by: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    url: str = ""


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            """Nothing is printed."""

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_CONNECT(self):
            self.answer(with_body=False)  # of a proxy on the way to an https address

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, *, with_body):
            path = self.path.removeprefix(hub.url).strip("/")
            hub.asked.append((self.command, path, self.headers.get("Range")))
            content = hub.files.get(path)
            status = hub.status if hub.status is not None else 200 if content is not None or not path else 404
            if status != 200 or content is None:
                return self.refuse(status)
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            body = content[begin : len(content) - (hub.short_by if with_body else 0)]
            self.send_response(206 if self.headers.get("Range") else 200)
            self.send_header("Content-Length", str(len(body)))
            if self.headers.get("Range"):
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not with_body:
                return None
            if hub.cut_after is not None and len(body) > hub.cut_after:
                self.wfile.write(body[: hub.cut_after])
                self.wfile.flush()
                hub.cut_after = None
                self.close_connection = True
                self.connection.close()
                return None
            self.wfile.write(body)
            return None

        def refuse(self, status):
            self.send_response(status)
            told = {401: "RepoNotFound", 403: "GatedRepo", 404: "EntryNotFound"}.get(status)
            if told:
                self.send_header("X-Error-Code", told)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@contextmanager
def serving(hub):
    """Serves it at `hub.url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
