"""The policy server: OpenAI's chat API, played by Python functions."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import openai
import pytest
from dspy.utils.exceptions import LMError

from dspy_rlm.testing import PolicyServer, fields, rules
from dspy_rlm.testing.listener import CLOSE_SECONDS

HELLO = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}


def echo(request):
    return request.prompt


def connect(server: PolicyServer) -> http.client.HTTPConnection:
    port = int(server.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    return http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def send(
    connection: http.client.HTTPConnection,
    body: Any,
    method: str = "POST",
    path: str = "/v1/chat/completions",
) -> tuple[int, Any]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, text)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.fixture
def server(serve):
    return serve(echo=echo)


@pytest.fixture
def connection(server):
    connection = connect(server)
    yield connection
    connection.close()


class TestLM:
    """`server.lm`, and the requests that it sends."""

    def test_a_dspy_lm_reaches_its_player(self, server):
        """`server.lm(name)` is a real dspy.LM whose calls travel over HTTP."""
        lm = server.lm("echo")

        assert lm("hello") == ["hello"]
        assert [message.text for message in server.requests[0].messages] == ["hello"]

    def test_nothing_is_cached_or_retried_unasked(self, server):
        """One call is one request, so a test can count them."""
        lm = server.lm("echo")

        lm("hello")
        lm("hello")

        assert len(server.requests) == 2
        assert (lm.cache, lm.num_retries) == (False, 0)

    def test_a_caller_may_ask_for_more(self, server):
        """Retries, temperature and the rest are dspy.LM's own arguments."""
        lm = server.lm("echo", num_retries=2, temperature=0.5)

        lm("hello")

        assert lm.num_retries == 2
        assert server.requests[0].request.raw["temperature"] == 0.5

    def test_it_answers_asynchronous_calls(self, server):
        """`acall` works as well, many at once."""
        lm = server.lm("echo")

        async def ask_all():
            return await asyncio.gather(*(lm.acall(f"{i}") for i in range(8)))

        assert asyncio.run(ask_all()) == [[f"{i}"] for i in range(8)]

    def test_text_survives_the_journey(self, server):
        """Any text goes there and back unchanged."""
        text = "naïve 🙂 \r\n\u2028\x00\\ \"quotes\" ''' [[ ## x ## ]]"

        assert server.lm("echo")(text) == [text]

    def test_each_name_has_its_player(self, serve):
        """Models are distinguished by name."""
        server = serve(one=lambda request: "1", two=lambda request: "2")

        assert [server.lm("one")("?"), server.lm("two")("?")] == [["1"], ["2"]]
        assert [e.reply for e in server.requests_to("two")] == ["2"]

    def test_token_counts_are_estimates(self, server):
        """Usage is the number of characters divided by four, rounded up."""
        lm = server.lm("echo")

        lm("12345678x")

        assert lm.history[-1]["usage"]["prompt_tokens"] == 3
        assert lm.history[-1]["usage"]["completion_tokens"] == 3


class TestOtherClients:
    """OpenAI's own client, which LiteLLM and most others are built on."""

    @pytest.fixture
    def client(self, server):
        with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
            yield client

    def test_openais_client_is_served(self, client):
        """OpenAI's client gets a whole reply, with its usage."""
        reply = client.chat.completions.create(**HELLO)

        assert reply.choices[0].message.content == "hello"
        assert reply.usage.total_tokens == 4

    def test_openais_client_can_stream(self, client):
        """OpenAI's client gets a stream whose chunks add up to the reply."""
        with client.chat.completions.create(**HELLO, stream=True) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]

        assert "".join(pieces) == "hello"

    def test_openais_client_lists_the_models(self, client):
        """The listed names are those of the server's players."""
        assert [model.id for model in client.models.list()] == ["echo"]

    def test_openais_client_understands_errors(self, client):
        """Errors carry the codes by which OpenAI's client classifies them."""
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(**{**HELLO, "model": "nobody"})

        assert caught.value.code == "model_not_found"


class TestStreaming:
    """Streamed replies arrive as server-sent events."""

    def test_dspy_streams_fields(self, serve):
        """`dspy.streamify` gets the reply in pieces that add up to it."""
        text = "one two three four five six seven eight nine ten"
        server = serve(root=fields(lambda inputs: {"answer": text}))
        program = dspy.streamify(
            dspy.Predict("question -> answer"),
            stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
            async_streaming=False,
        )

        with dspy.context(lm=server.lm("root")):
            *pieces, prediction = program(question="?")

        assert len(pieces) > 1
        assert "".join(piece.chunk for piece in pieces) == text
        assert prediction.answer == text
        assert server.requests[0].request.stream

    def test_events_follow_openais_order(self, server, connection):
        """Events are role, words, end, usage when requested, and [DONE], in this order."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        connection.request("POST", "/v1/chat/completions", json.dumps({**HELLO, **options}))
        response = connection.getresponse()
        *events, done = response.read().decode().strip().split("\n\n")

        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        assert response.headers["Content-Type"] == "text/event-stream"
        assert done == "data: [DONE]"
        assert [chunk["choices"] and chunk["choices"][0]["delta"] for chunk in chunks] == [
            {"role": "assistant", "content": ""},
            {"content": "hello"},
            {},
            [],
        ]
        assert chunks[-1]["usage"] == {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 4,
        }

    def test_a_stream_leaves_the_connection_usable(self, connection):
        """After a stream the same connection serves the next request."""
        connection.request("POST", "/v1/chat/completions", json.dumps({**HELLO, "stream": True}))
        connection.getresponse().read()
        socket = connection.sock

        assert send(connection, HELLO)[0] == 200
        assert connection.sock is socket


class TestProtocol:
    """HTTP details and OpenAI's message format."""

    def test_a_reply_names_what_answered(self, connection):
        """A saved reply shows that no language model made it."""
        _, reply = send(connection, HELLO)

        assert reply["system_fingerprint"] == "scripted-player-not-a-language-model"
        assert reply["choices"][0]["message"] == {"role": "assistant", "content": "hello"}
        assert reply["choices"][0]["finish_reason"] == "stop"

    def test_alternatives_are_the_same_reply(self, connection):
        """`n` is honoured; a script has one answer, so all are equal."""
        _, reply = send(connection, {**HELLO, "n": 3})

        assert [choice["message"]["content"] for choice in reply["choices"]] == ["hello"] * 3

    def test_text_parts_are_joined(self, server, connection):
        """Content may come in parts, as DSPy sends it beside images."""
        parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
        image = {"type": "image_url", "image_url": {"url": "data:,"}}

        send(connection, {**HELLO, "messages": [{"role": "user", "content": [*parts, image]}]})

        assert server.requests[0].prompt == "hello"

    def test_the_models_can_be_listed(self, connection):
        """`GET /v1/models` names every player."""
        status, reply = send(connection, b"", "GET", "/v1/models")

        assert (status, [model["id"] for model in reply["data"]]) == (200, ["echo"])

    def test_connections_are_kept_alive(self, connection):
        """Many requests use one connection, also after an error."""
        send(connection, HELLO)
        socket = connection.sock
        send(connection, {**HELLO, "model": "nobody"})
        send(connection, HELLO)

        assert connection.sock is socket

    def test_an_unknown_model_is_404(self, server, connection):
        """The error says which models there are."""
        status, reply = send(connection, {**HELLO, "model": "nobody"})

        assert status == 404
        assert reply["error"]["code"] == "model_not_found"
        assert reply["error"]["type"] == "invalid_request_error"
        assert reply["error"]["message"] == "The model 'nobody' does not exist. Models here: echo."
        assert server.requests[0].status == 404
        with pytest.raises(LMError, match="nobody"):
            server.lm("nobody")("hello")

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"\xff", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            ([], "must be a JSON object"),
            ({}, "'model'"),
            ({**HELLO, "model": 3}, "'model'"),
            ({"model": "echo"}, "'messages'"),
            ({**HELLO, "messages": []}, "'messages'"),
            ({**HELLO, "messages": ["hello"]}, "'role'"),
            ({**HELLO, "messages": [{"role": "user", "content": 3}]}, "'content'"),
            ({**HELLO, "messages": [{"role": "user", "content": [3]}]}, "part"),
            ({**HELLO, "messages": [{"role": "user", "content": [{"text": 3}]}]}, "'text'"),
            ({**HELLO, "response_format": "json"}, "'response_format'"),
            ({**HELLO, "n": 0}, "'n'"),
            ({**HELLO, "n": True}, "'n'"),
            ({**HELLO, "n": 10**9}, "'n'"),
        ],
    )
    def test_a_malformed_request_is_400(self, server, connection, body, complaint):
        """A malformed request is answered with the reason, and logged with it."""
        status, reply = send(connection, body)

        assert status == 400
        assert complaint in reply["error"]["message"]
        assert (server.requests[0].status, server.requests[0].model) == (400, "")
        assert complaint in server.requests[0].error

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/v1/responses", 404),
            ("GET", "/", 404),
            ("DELETE", "/v1/models", 501),
        ],
    )
    def test_other_addresses_do_not_exist(self, server, connection, method, path, status):
        """Requests to other addresses are refused in OpenAI's format and not logged."""
        found, reply = send(connection, b"{}", method, path)

        assert found == status
        assert reply["error"]["message"]
        assert server.requests == []

    def test_a_body_needs_a_length(self, connection):
        """A body without Content-Length is refused, because its end is unknown."""
        connection.putrequest("POST", "/v1/chat/completions")
        connection.endheaders()

        assert connection.getresponse().status == 411


class TestPlayers:
    """Failing players are answered with an error and logged."""

    def test_what_a_player_raises_is_500(self, server, serve):
        """The caller and the log both get the type and the text."""

        def broken(request):
            raise KeyError("no such town")

        server = serve(broken=broken)

        with pytest.raises(LMError, match="KeyError: 'no such town'"):
            server.lm("broken")("Where?")
        assert server.requests[0].status == 500
        assert server.requests[0].error == "KeyError: 'no such town'"
        assert server.requests[0].reply is None

    def test_a_player_that_ends_the_program_does_not(self, serve):
        """Even SystemExit or pytest.fail in a player is answered as an error to the client."""

        def broken(request):
            pytest.fail("not this prompt")

        with pytest.raises(LMError, match="Failed: not this prompt"):
            serve(broken=broken).lm("broken")("?")

    def test_a_player_gives_text(self, serve):
        """A reply that is not text is reported as the player's error."""
        with pytest.raises(LMError, match="The player gave int, not text"):
            serve(broken=lambda request: 3).lm("broken")("?")


class TestLog:
    """The log of requests, `server.requests`."""

    def test_it_keeps_every_exchange(self, server):
        """Each entry has the request, the reply, the start and the duration."""
        before = time.time()

        server.lm("echo")("hello")

        (exchange,) = server.requests
        assert (exchange.model, exchange.prompt, exchange.reply) == ("echo", "hello", "hello")
        assert (exchange.status, exchange.error, exchange.fault) == (200, None, None)
        assert before <= exchange.started <= time.time()
        assert 0 <= exchange.seconds < 20

    def test_it_is_ordered_by_arrival(self, serve):
        """A slow exchange stands where it began, not where it ended."""
        has_begun, go_on = threading.Event(), threading.Event()

        def wait_for_it(text):
            has_begun.set()
            go_on.wait(timeout=60)
            return text

        server = serve(m=rules([("first", lambda match: wait_for_it("slow"))], default="quick"))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(server.lm("m"), "first")
            assert has_begun.wait(timeout=60)
            server.lm("m")("second")
            assert [e.prompt for e in server.requests] == ["second"]
            go_on.set()
            first.result(timeout=20)

        assert [e.prompt for e in server.requests] == ["first", "second"]

    def test_the_list_is_the_callers(self, server):
        """Changing the list that `requests` returned changes nothing in the server."""
        server.lm("echo")("hello")

        server.requests.clear()

        assert len(server.requests) == 1

    def test_many_clients_lose_nothing(self, server):
        """Every concurrent request gets its own answer and its own entry."""
        lm = server.lm("echo")
        texts = [f"text {i}" for i in range(200)]

        with ThreadPoolExecutor(32) as pool:
            replies = list(pool.map(lm, texts))

        assert replies == [[text] for text in texts]
        assert sorted(e.prompt for e in server.requests) == sorted(texts)


class TestClosing:
    """Closing a server, with and without open requests."""

    def test_nothing_is_left(self):
        """No thread, no socket: idle connections are hung up, and the port is free."""
        threads = set(threading.enumerate())
        with PolicyServer({"echo": echo}) as server:
            connections = [connect(server) for _ in range(3)]
            for connection in connections:
                send(connection, HELLO)

        assert set(threading.enumerate()) <= threads
        for connection in connections:
            assert connection.sock.recv(1) == b""
            connection.close()
        with pytest.raises(ConnectionRefusedError):
            send(connections[0], HELLO)

    def test_closing_twice_is_fine(self, server):
        """`close` may be called again, also inside the context manager and from many threads."""
        with server, ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(server.close)
        server.close()

    def test_the_log_outlives_the_server(self, server):
        """The log can be read after the server is closed."""
        server.lm("echo")("hello")

        server.close()

        assert [e.reply for e in server.requests] == ["hello"]

    def test_closing_an_unused_server_is_quick(self):
        """Servers without requests close at once: 20 in less time than a busy player gets from each."""
        started = time.perf_counter()

        for _ in range(20):
            PolicyServer({}).close()

        assert time.perf_counter() - started < 20 * CLOSE_SECONDS

    def test_a_player_that_never_returns_is_left_behind(self):
        """Closing waits for a busy player for a short time only: it never hangs."""
        has_begun, release = threading.Event(), threading.Event()

        def stuck(request):
            has_begun.set()
            release.wait(timeout=60)
            return "late"

        server = PolicyServer({"stuck": stuck})
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(server.lm("stuck"), "?")
            assert has_begun.wait(timeout=60)
            started = time.perf_counter()
            server.close()
            assert time.perf_counter() - started < CLOSE_SECONDS + 5
            assert isinstance(call.exception(timeout=60), LMError)
            release.set()

    def test_a_player_may_close_its_server(self):
        """A close from inside an exchange does not wait for itself."""
        closed = threading.Event()

        def last_words(request):
            server.close()
            closed.set()
            return "bye"

        server = PolicyServer({"m": last_words})
        with pytest.raises(LMError):
            server.lm("m")("?")
        assert closed.wait(timeout=60)
