"""A web server with objects in memory: ranges, tags, and the ways in which servers fail."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class ObjectServer:
    """Serves `objects`, by path without the leading slash."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Method, path with query, and range of each request."""
        self.has_ranges = True
        self.secret_query = ""
        """The query without which nothing is served."""

    @property
    def bytes_sent(self) -> int:
        """The bytes of all ranges."""
        spans = (re.fullmatch(r"bytes=(\d+)-(\d+)", span) for _, _, span in self.requests)
        return sum(int(found[2]) + 1 - int(found[1]) for found in spans if found)


@contextmanager
def serving() -> Iterator[ObjectServer]:
    """Runs a server while the block does."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server = _Handler.servers[http.server_port] = ObjectServer(
        f"http://127.0.0.1:{http.server_port}"
    )
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    servers: dict[int, ObjectServer] = {}  # noqa: RUF012
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        self._server().objects[unquote(urlsplit(self.path).path).lstrip("/")] = self.rfile.read(
            size
        )
        self._send(201, b"", with_body=False)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""

    def _server(self) -> ObjectServer:
        return self.servers[self.server.server_address[1]]

    def _answer(self, *, with_body: bool) -> None:
        server, parts = self._server(), urlsplit(self.path)
        span = self.headers.get("Range", "")
        server.requests.append((self.command, self.path, span))
        data = server.objects.get(unquote(parts.path).lstrip("/"))
        if server.secret_query and parts.query != server.secret_query:
            return self._send(403, b"no", with_body=with_body)
        if data is None:
            return self._send(404, b"none", with_body=with_body)
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        if self.headers.get("If-Match", tag) != tag:
            return self._send(412, b"changed", with_body=with_body)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", span)
        headers = {"ETag": tag}
        if found and server.has_ranges:
            start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            return self._send(206, data[start:stop], with_body=with_body, headers=headers)
        return self._send(200, data, with_body=with_body, headers=headers)

    def _send(
        self, code: int, data: bytes, *, with_body: bool, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)
