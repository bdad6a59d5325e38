"""The server of `--live`: it follows a run, and answers its own page only."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from viewed_runs import NO_SCRIPT, Lines

from dspy_rlm.cli.recorded.view import Journals
from dspy_rlm.viewer.live import Following, LiveServer


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A journal of a run that goes on."""
    lines = Lines(tmp_path / "run.jsonl")
    lines.run()
    lines.step(1, "x = 1", "one")
    return lines


@pytest.fixture
def server(lines: Lines) -> Iterator[LiveServer]:
    """A server that follows it."""
    server = LiveServer(Following(Journals([lines.path], live=True), rest=0.0), NO_SCRIPT)
    yield server
    server.close()


def get(
    server: LiveServer, path: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Sends a request; returns the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, f"/{server.token}/" if path is None else path, skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def changes(server: LiveServer, version: int, chunks: int) -> tuple[int, dict[str, object]]:
    """Asks for what is new; returns the status and the answer."""
    query = f"/{server.token}/changes?version={version}&chunks={chunks}"
    status, _, body = get(server, query)
    return status, json.loads(body) if body else {}


class TestFollowing:
    """A page asks for what is new, and gets it."""

    def test_the_page_says_that_it_is_live(self, server: LiveServer):
        """It is the page of `--html`, whose policy allows it to ask its own server."""
        status, headers, body = get(server)

        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "connect-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert 'id="r0-s1"' in body

    def test_what_is_new_comes_with_its_chunks(self, server: LiveServer, lines: Lines):
        """Without changes there is nothing; after a step, the new document and the chunks that the page lacks."""
        status, first = changes(server, 0, 0)
        assert status == 200
        again, nothing = changes(server, int(str(first["version"])), 1)
        lines.step(2, "y = 2", "two" * 200)
        lines.end(outputs={"answer": "red"})
        later, second = changes(server, int(str(first["version"])), len(first["chunks"]))  # type: ignore[arg-type]

        assert (again, nothing) == (204, {})
        assert later == 200
        documents = [one["document"] for one in (first, second)]
        steps = [len(one["journals"][0]["runs"][0]["steps"]) for one in documents]  # type: ignore[index]
        assert steps == [1, 2]
        assert second["version"] == first["version"] + 1  # type: ignore[operator]
        chunks = [one["chunks"] for one in documents]  # type: ignore[index]
        assert chunks[1][: len(chunks[0])] == chunks[0]
        assert len(first["chunks"]) + len(second["chunks"]) == len(chunks[1])  # type: ignore[arg-type]

    def test_a_journal_that_is_gone_says_so(self, server: LiveServer, lines: Lines):
        """A page stops asking when the journal was deleted."""
        lines.path.unlink()

        assert get(server)[0] == 410

    @pytest.mark.parametrize(
        "query", ["", "?version=-1&chunks=x", "?version=99999999999999999999&chunks=%00"]
    )
    def test_a_query_of_another_form_gets_everything(self, server: LiveServer, query: str):
        """Numbers that are none count as zero."""
        status, _, body = get(server, f"/{server.token}/changes{query}")

        assert status == 200
        assert len(json.loads(body)["chunks"]) == 1


class TestChecks:
    """Nobody but the page itself gets an answer."""

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:{port}",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.0.0.1:{port}.evil.example",
            "",
        ],
    )
    def test_another_host_is_refused(self, server: LiveServer, host: str):
        """A name that an attacker points at this machine (DNS rebinding) is in the Host header."""
        status, _, body = get(server, Host=host.format(port=server.port))

        assert status == 403
        assert "<" not in body

    def test_a_request_without_or_with_two_hosts_is_refused(self, server: LiveServer):
        """One Host header is expected."""
        for lines in ("", f"Host: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(f"GET /{server.token}/ HTTP/1.1\r\n{lines}\r\n".encode())
                answer = client.recv(1000)
            assert b" 403 " in answer.split(b"\r\n")[0]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1"},
            {"Origin": "http://localhost:{port}"},
            {"Origin": "https://127.0.0.1:{port}"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
    )
    def test_a_page_of_another_origin_is_refused(self, server: LiveServer, headers: dict[str, str]):
        """A page in the same browser cannot ask, though it may guess the port."""
        sent = {name: value.format(port=server.port) for name, value in headers.items()}

        assert get(server, **sent)[0] == 403

    def test_its_own_page_may_ask(self, server: LiveServer):
        """The page's own requests, those that a person types, and `localhost` are answered."""
        port = server.port

        assert (
            get(server, Origin=f"http://127.0.0.1:{port}", Sec_Fetch_Site="same-origin")[0] == 200
        )
        assert get(server, Sec_Fetch_Site="none")[0] == 200
        assert get(server, Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/{token}",
            "/{token}/../",
            "/{token}/other",
            "/{token}/changes/x",
            "/{wrong}/",
            "/%C3%A9/",
            "/%00/",
        ],
    )
    def test_another_path_has_nothing(self, server: LiveServer, path: str):
        """Without the token, or with anything else behind it, there is nothing, and no word about why."""
        wrong = server.token[:-1] + ("a" if server.token[-1] != "a" else "b")
        named = path.format(token=server.token, wrong=wrong)
        status, _, body = get(server, named)

        assert (status, body) == (404, "There is nothing here.")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
    def test_nothing_can_be_sent(self, server: LiveServer, method: str):
        """The server answers GET only."""
        assert get(server, method=method)[0] == 501

    def test_it_listens_on_this_machine_only(self, server: LiveServer):
        """The address is of the loopback interface, with a token of at least 128 bits."""
        address = urlsplit(server.url)

        assert (address.scheme, address.hostname, address.port) == (
            "http",
            "127.0.0.1",
            server.port,
        )
        assert len(server.token) >= 22
