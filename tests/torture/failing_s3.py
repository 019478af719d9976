"""An S3 server that fails every tenth request: `python -m tests.torture.failing_s3 PORT FILE`; FILE counts them."""

import itertools
import os
import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

EVERY = 10


class Failing:
    """A WSGI application around the server's."""

    def __init__(self, whole, failures):
        self.whole, self.failures, self.numbers = whole, failures, itertools.count(1)

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "GET" and next(self.numbers) % EVERY == 0:
            os.write(self.failures, b".")
            start_response("503 Slow Down", [("Content-Type", "text/plain")])
            return [b"slow down"]
        return self.whole(environ, start_response)


class Quiet(WSGIRequestHandler):
    """Says nothing, and keeps connections."""

    protocol_version = "HTTP/1.1"

    def log(self, *_):
        """Nothing."""


def main(port, file):
    """Serves until it is ended."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    failing = Failing(DomainDispatcherApplication(create_backend_app), handle)
    run_simple("127.0.0.1", port, failing, threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
