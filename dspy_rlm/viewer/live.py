"""A page that follows a run: a small local server that answers only the page that it has served.

It listens on 127.0.0.1. Each address has a random token in its path, so that no other user or page can guess it. The Host header
must be this machine's, against DNS rebinding, and a request from a page of another origin is refused.
"""

from __future__ import annotations

import functools
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from dspy_rlm.journal.lines import dumped
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.bundle import Bundle
from dspy_rlm.viewer.page import page, policy
from dspy_rlm.viewer.texts import Texts
from sandbox_runtime.helpers import start_thread

HOST = "127.0.0.1"

# Seconds that a client may take to send its request.
_REQUEST_SECONDS = 10

# Building the document of a large journal takes a second. It may take a fifth of one core.
REST = 4.0

# The most digits of a number in a query.
_MAX_DIGITS = 9


class Source(Protocol):
    """The run that a page follows."""

    texts: Texts
    """The texts of all its documents so far."""

    def state(self) -> object:
        """Returns a value that differs whenever there is something new. Raises `OSError` if the journal is gone."""

    def document(self) -> doc.ViewDocument:
        """Returns the document as it is now. Raises `OSError` or `RLMError` if the journal cannot be read."""


class Following:
    """The newest document of a run. Safe to use from any thread."""

    def __init__(self, source: Source, *, rest: float = REST) -> None:
        """Creates the object without reading the run.

        Args:
            source: The run.
            rest: The pause before the next document, as a multiple of the time that the last one took.
        """
        self._source = source
        self._rest = rest
        self._lock = threading.Lock()  # guards everything below
        self._state: object = None
        self._rest_until = 0.0
        self._version = 0
        self._document: doc.ViewDocument | None = None

    def page(self, bundle: Bundle) -> bytes:
        """Returns the whole page."""
        with self._lock:
            return page(self._newest(), self._source.texts, bundle).encode("utf-8", "replace")

    def changes(self, version: int, chunks: int) -> bytes | None:
        """Returns the document and the chunks after the first ones; None if the version is the newest."""
        with self._lock:
            document = self._newest()
            if version == self._version:
                return None
            answer: doc.LiveAnswer = {
                "version": self._version,
                "document": document,
                "chunks": self._source.texts.blocks[chunks:],
            }
            return dumped(answer)

    def _newest(self) -> doc.ViewDocument:
        state = self._source.state()
        if self._document is None or (
            state != self._state and time.monotonic() >= self._rest_until
        ):
            began = time.monotonic()
            self._document = self._source.document()
            self._rest_until = time.monotonic() + self._rest * (time.monotonic() - began)
            self._state = state
            self._version += 1
        return self._document


class LiveServer:
    """Serves a page that follows a run, from construction until `close`."""

    def __init__(self, following: Following, bundle: Bundle, port: int = 0) -> None:
        """Listens. Raises `OSError` if the port is taken."""
        self.token = secrets.token_urlsafe(24)
        handler = type("Handler", (_Handler,), {"site": _Site(following, bundle, self.token)})
        self._server = _Server((HOST, port), handler)
        self.port: int = self._server.server_address[1]
        self._thread = start_thread(
            functools.partial(self._server.serve_forever, poll_interval=0.1), "rlm-view"
        )

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores the error: a client may hang up at any time."""


class _Site:
    """The response for each address. Decides only; the handler sends it."""

    def __init__(self, following: Following, bundle: Bundle, token: str) -> None:
        self._following = following
        self._bundle = bundle
        self._token = token
        self.policy = f"{policy(bundle, live=True)}; frame-ancestors 'none'"

    def find(self, target: str) -> Callable[[], tuple[HTTPStatus, str, bytes]] | None:
        """Returns the function that answers requests of an address; None if there is nothing."""
        address = urlsplit(target)
        parts = address.path.split("/")
        if len(parts) != 3 or not hmac.compare_digest(
            parts[1].encode("utf-8", "replace"), self._token.encode()
        ):
            return None
        if parts[2] == "":
            return lambda: (
                HTTPStatus.OK,
                "text/html; charset=utf-8",
                self._following.page(self._bundle),
            )
        if parts[2] == "changes":
            query = parse_qs(address.query)
            return lambda: self._changes(_number(query, "version"), _number(query, "chunks"))
        return None

    def _changes(self, version: int, chunks: int) -> tuple[HTTPStatus, str, bytes]:
        found = self._following.changes(version, chunks)
        if found is None:
            return HTTPStatus.NO_CONTENT, "", b""
        return HTTPStatus.OK, "application/json", found


def _number(query: dict[str, list[str]], name: str) -> int:
    text = query.get(name, [""])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0


def refusal(headers: Any, port: int) -> str:
    """Returns the reason to refuse a request by its headers; empty if the request comes from this page, or was typed into the browser."""
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    named = headers.get_all("Host") or []
    if len(named) != 1 or named[0].lower() not in hosts:
        return "The Host header is not this server's."
    origins = headers.get_all("Origin") or []
    if any(origin.lower() != f"http://{named[0].lower()}" for origin in origins):
        return "The request is from a page of another origin."
    sites = headers.get_all("Sec-Fetch-Site") or []
    if any(site not in ("same-origin", "none") for site in sites):
        return "The request is from a page of another site."
    return ""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    site: _Site
    timeout = _REQUEST_SECONDS
    protocol_version = "HTTP/1.0"
    server_version = "dspy-rlm"
    sys_version = ""

    def do_GET(self) -> None:
        """Answers a request."""
        _, port, *_ = self.connection.getsockname()
        reason = refusal(self.headers, port)
        if reason:
            self._send(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", reason.encode())
            return
        answer = self.site.find(self.path)
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There is nothing here.")
            return
        try:
            found = answer()
        except Exception as error:  # noqa: BLE001 - the journal may be gone or damaged, whatever else is
            name = type(error).__name__
            found = (
                HTTPStatus.GONE,
                "text/plain; charset=utf-8",
                f"The journal cannot be read: {name}.".encode(),
            )
        self._send(*found)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", self.site.policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing: the address has the token."""
