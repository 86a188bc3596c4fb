"""A web server for tests, on 127.0.0.1: serves a folder with ranges, as object stores do, and counts what it sends.

It runs in a process of its own: rasterio holds the interpreter's lock while it opens a file, and a server in the same
process could not answer.
"""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Served:
    """A folder that is served at ``url``."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def _ask(self, path):
        with _OPENER.open(f"{self.url}/-/{path}") as answer:
            return json.load(answer)

    def sent(self):
        """Bytes of content so far."""
        return self._ask("counts")["sent"]

    def requests(self):
        """How often each method, path and status has been so far."""
        return {(method, path, status): count for method, path, status, count in self._ask("counts")["requests"]}

    def fail(self, status, times):
        """Answer the next requests of files with a status; 0 never answers them."""
        self._ask(f"fail/{status}/{times}")


@contextmanager
def serving(folder, *, ranges=True):
    """Serve a folder as long as the block lasts; without ``ranges``, files come as a whole only."""
    command = [sys.executable, __file__, str(folder), "ranges" if ranges else "whole"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(int(process.stdout.readline()))
        finally:
            process.terminate()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder, ranges):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges = Path(folder), ranges
        self.sent, self.requests, self.failures = 0, Counter(), []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Clients may hang up when they have seen enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        if self.path.startswith("/-/"):
            self._send(200, self._told().encode(), {}, with_content=True)
        else:
            self._answer(with_content=True)

    def _told(self):
        server, words = self.server, self.path.split("/")
        with server.lock:
            if words[2] == "fail":
                server.failures += [int(words[3])] * int(words[4])
            requests = [(*request, count) for request, count in server.requests.items()]
            return json.dumps({"sent": server.sent, "requests": requests})

    def _answer(self, *, with_content):
        with self.server.lock:
            failure = self.server.failures.pop(0) if self.server.failures else None
        if failure == 0:
            time.sleep(600)
        status, content, headers = (failure, b"", {}) if failure else self._found()
        with self.server.lock:
            self.server.requests[self.command, self.path, status] += 1
            self.server.sent += len(content) if with_content else 0
        self._send(status, content, headers, with_content=with_content)

    def _send(self, status, content, headers, *, with_content):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _found(self):
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


if __name__ == "__main__":
    server = _Server(sys.argv[1], sys.argv[2] == "ranges")
    print(server.server_address[1], flush=True)
    server.serve_forever()
