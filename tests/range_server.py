"""A web server for tests, on 127.0.0.1: serves a folder with ranges, as object stores do, and counts what it sends."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class RangeServer(ThreadingHTTPServer):
    """Serves a folder at ``url``.

    ``sent`` counts bytes of content, ``requests`` lists method, path and status in the order of the answers.
    ``ranges`` says whether parts of files can be asked for, and ``answers`` holds statuses for the next requests
    of content, which they get in place of it.
    """

    daemon_threads = True

    def __init__(self, folder, *, ranges=True):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges = Path(folder), ranges
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.sent, self.requests, self.answers = 0, [], []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Clients may hang up when they have seen enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):  # noqa: N802
        self._answer(with_content=False)

    def do_GET(self):  # noqa: N802
        self._answer(with_content=True)

    def _answer(self, *, with_content):
        status, content, headers = self._found(with_content)
        with self.server.lock:
            self.server.requests.append((self.command, self.path, status))
            self.server.sent += len(content) if with_content else 0
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _found(self, with_content):
        if with_content and self.server.answers:
            return self.server.answers.pop(0), b"", {}
        file = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not file.is_file():
            return 404, b"", {}
        content = file.read_bytes()
        if not self.server.ranges:
            return 200, content, {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return 200, content, {"Accept-Ranges": "bytes"}
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first > last:
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}
        return 206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"}


@contextmanager
def serving(folder, *, ranges=True):
    """Serve a folder as long as the block lasts."""
    with RangeServer(folder, ranges=ranges) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
