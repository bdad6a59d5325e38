"""Addresses as inputs: what is downloaded, how far, and what is refused."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator

import pytest

from dspy_rlm.errors import InputError
from dspy_rlm.inputs import web
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.variables import load_variables
from dspy_rlm.sources import load

PAGES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/a.txt": (200, {"Content-Type": "text/plain"}, b"hello"),
    "/latin": (
        200,
        {"Content-Type": "text/plain; charset=iso-8859-15"},
        "5 €".encode("iso-8859-15"),
    ),
    "/data": (200, {"Content-Type": "text/csv"}, b"a\n1\n"),
    "/data.csv.gz?x=1": (200, {"Content-Type": "application/gzip"}, gzip.compress(b"a\n1\n")),
    "/lines": (200, {"Content-Type": "application/x-ndjson"}, b'{"a": 1}\n'),
    "/encoded": (
        200,
        {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
        gzip.compress(b"hi"),
    ),
    "/both": (
        200,
        {"Content-Type": "text/plain; charset=iso-8859-15", "Content-Encoding": "gzip"},
        gzip.compress("5 €".encode("iso-8859-15")),
    ),
    "/table": (
        200,
        {"Content-Type": "text/csv", "Content-Encoding": "gzip"},
        gzip.compress(b"a\n1\n"),
    ),
    "/lie": (200, {"Content-Type": "text/plain; charset=utf-8"}, b"\x89PNG\0\0"),
    "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG\0\0"),
    "/to": (302, {"Location": "/a.txt"}, b""),
    "/circle": (302, {"Location": "/circle"}, b""),
    "/file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/ftp": (302, {"Location": "ftp://127.0.0.1/x"}, b""),
    "/large": (200, {"Content-Type": "text/plain"}, b"x" * 5000),
    "/claims": (200, {"Content-Length": "9999999999"}, b"x"),
    "/short": (200, {"Content-Length": "100"}, b"x"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the pages."""

    def do_GET(self) -> None:
        """Answers a request."""
        if self.path not in PAGES:
            self.send_error(404)
            return
        status, headers, body = PAGES[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server with the pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


class TestDownloads:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("/a.txt", "hello"),
            ("/to", "hello"),
            ("/latin", "5 €"),
            ("/data", [{"a": 1}]),
            ("/lines", [{"a": 1}]),
            ("/encoded", "hi"),
            ("/both", "5 €"),
            ("/table", [{"a": 1}]),
        ],
    )
    def test_the_kind_is_that_of_the_content_or_of_the_media_type(self, address, path, value):
        """A text, a table and records are read as they are named by the server; encodings are those it states."""
        assert load(f"{address}{path}") == value

    def test_a_compressed_table(self, address):
        """The path of the address is the name, without its query."""
        assert load(f"{address}/data.csv.gz?x=1") == [{"a": 1}]

    def test_what_is_worth_knowing_is_said(self, address):
        """A private address and a redirect are notes."""
        (variable,) = load_variables([f"{address}/to"], None, InputBounds())

        assert [note.partition(": ")[2] for note in variable.notes] == [
            "from a private address",
            f"redirected to {address}/a.txt",
        ]

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/nothing", "the server answered 404 Not Found"),
            ("/image", "a PNG image, not a text"),
            ("/lie", "a PNG image, not a text"),
            ("/circle", "redirected"),
            ("/file", "Redirection to"),
            ("/ftp", "redirected from http to ftp"),
            ("/large", "more than 1.0 kB"),
            ("/claims", "it has 10.0 GB"),
            ("/short", "ended after 1 of 100 bytes|[Ii]ncomplete"),
        ],
    )
    def test_what_is_refused(self, address, path, reason):
        """Errors of the server, other schemes, circles, and what is too large."""
        with pytest.raises(InputError, match=reason):
            load(f"{address}{path}", bounds=InputBounds(download_bytes=1000, redirects=2))

    @pytest.mark.parametrize("scheme", ["ftp", "file", "s3", "data", "javascript"])
    def test_other_schemes(self, scheme):
        """Only HTTP and HTTPS are read."""
        with pytest.raises(InputError, match=f"not {scheme}. Download it"):
            load(f"{scheme}://user:secret@example.com/x")

    def test_a_server_that_does_not_answer(self):
        """A dead address is an error with its reason, without the password in it."""
        with pytest.raises(InputError, match="refused") as caught:
            load("http://user:secret12345@127.0.0.1:1/x")
        assert "secret12345" not in str(caught.value)

    def test_the_time_is_bounded(self, address):
        """A download that takes too long is ended."""
        with pytest.raises(InputError, match=r"in time|longer than"):
            load(f"{address}/a.txt", bounds=InputBounds(download_seconds=0.0))


def test_a_redirect_may_not_lead_to_a_private_address():
    """The check is made for the address that is connected to, so no name server can change it in between."""
    journey = web._Journey(InputBounds(), started=float("inf"), proxies=frozenset(), redirects=1)
    with pytest.raises(web._RefusedError, match="a private address"):
        web._connected(journey, "127.0.0.1", 9)
