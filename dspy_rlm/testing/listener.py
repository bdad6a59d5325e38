"""HTTP/1.1 on a local socket: connections, their threads and framing.

Two functions that are passed in answer the requests. This module owns every socket and thread of a server,
and ends them all on close.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeAlias

from dspy_rlm.testing.chat import write_error

# The interval at which the accepting thread checks for a close; the longest part of a close.
POLL_SECONDS = 0.02

# The time that a close waits for replies in progress. A player that never returns stays in its daemon
# thread: Python cannot end it.
CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Whole:
    """A reply with a length."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_off: bool = False


@dataclass(frozen=True)
class Streamed:
    """A reply of server-sent events, each sent as soon as the previous one is out."""

    events: tuple[bytes, ...]
    cut_off: bool = False


@dataclass(frozen=True)
class Dropped:
    """No reply: the connection is closed."""


Answer: TypeAlias = Whole | Streamed | Dropped


# The functions that answer a GET of a path and a POST of a body to a path.
Get: TypeAlias = Callable[[str], Answer]
Post: TypeAlias = Callable[[str, bytes], Answer]


class Listener:
    """Serves on 127.0.0.1, on a free port or a certain one, from construction until `close`.

    `get` and `post` are called from many threads at once.
    """

    def __init__(self, get: Get, post: Post, port: int = 0) -> None:
        self._server = _Connections(get, post, port)
        self.port: int = self._server.server_address[1]
        self._accepting = threading.Thread(
            target=self._server.serve_forever,
            args=(POLL_SECONDS,),
            name=f"policy-server-{self.port}",
            daemon=True,
        )
        self._accepting.start()

    def close(self) -> None:
        """Stop accepting, close every connection and end its thread. Idempotent."""
        self._server.shutdown()
        self._accepting.join()
        self._server.server_close()
        self._server.hang_up()


class _Connections(socketserver.ThreadingTCPServer):
    """Runs one thread for each connection, and keeps the list of open ones."""

    daemon_threads = True
    # A certain port can be served again at once. On Windows, two servers could share it.
    allow_reuse_address = sys.platform != "win32"
    # The backlog: if more clients connect at the same instant, they wait.
    request_queue_size = 256

    def __init__(self, get: Get, post: Post, port: int) -> None:
        self._lock = threading.Lock()  # guards _open
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), partial(_Connection, get, post))

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that has disconnected is not an error of the server.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        with self._lock:
            remaining = dict(self._open)
        for connection in remaining.values():
            # The client, or the connection's own thread, may have closed it first.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in remaining:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


class _Connection(BaseHTTPRequestHandler):
    """Reads the requests of one connection in turn and writes the answers."""

    protocol_version = "HTTP/1.1"
    server_version = "dspy-rlm-policy-server"
    sys_version = ""
    disable_nagle_algorithm = True
    # Buffered, so that head and body leave in one piece.
    wbufsize = -1

    def __init__(self, get: Get, post: Post, *arguments: Any) -> None:
        self._get = get
        self._post = post
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._send(self._get(self.path))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            message = "The request must state its Content-Length."
            self._send(Whole(411, write_error(411, message)))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        self._send(self._post(self.path, body))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends http.server's own refusals (a bad request line, an unknown method) as JSON."""
        self.close_connection = True
        self._send(Whole(code, write_error(code, message or explain or "Bad request.")))

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing: the server keeps a log of its own."""

    def _send(self, answer: Answer) -> None:
        match answer:
            case Dropped():
                self.close_connection = True
            case Whole():
                self._send_whole(answer)
            case Streamed():
                self._send_events(answer)

    def _send_whole(self, answer: Whole) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
        self._send_head(answer.status, {**headers, **answer.headers})
        if answer.cut_off:
            self.close_connection = True
            self.wfile.write(answer.body[: len(answer.body) // 2])
        else:
            self.wfile.write(answer.body)

    def _send_events(self, answer: Streamed) -> None:
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        self._send_head(200, {**headers, "Transfer-Encoding": "chunked"})
        events = answer.events
        for event in events[: len(events) // 2] if answer.cut_off else events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        if answer.cut_off:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
