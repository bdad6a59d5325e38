"""Faults: the planned failures happen, and no others."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.utils.exceptions import (
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
)

from dspy_rlm.testing import Fault, PolicyServer, fields


def echo(request):
    return request.prompt


@pytest.fixture
def server(serve):
    return serve(echo=echo, other=echo)


def statuses(server):
    return [exchange.status for exchange in server.requests]


class TestStatus:
    """Faults that answer with an error status raise DSPy's matching error."""

    @pytest.mark.parametrize(
        ("status", "error"),
        [(400, LMInvalidRequestError), (429, LMRateLimitError), (500, LMServerError)],
    )
    def test_dspy_sees_the_error_it_stands_for(self, server, status, error):
        """An error status arrives as DSPy's exception for it, with the given text."""
        server.fail("echo", Fault(status=status, message="Out of luck."))

        with pytest.raises(error, match=r"Out of luck\."):
            server.lm("echo")("hello")

        (exchange,) = server.requests
        assert (exchange.status, exchange.error) == (status, "Out of luck.")
        assert (exchange.reply, exchange.fault.status) == (None, status)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_retry_gets_through(self, server, status):
        """Once the fault is spent the model answers, and the retries did not have to wait."""
        server.fail("echo", Fault(status=status, times=5))
        started = time.perf_counter()

        assert server.lm("echo", num_retries=5)("hello") == ["hello"]

        assert statuses(server) == [*[status] * 5, 200]
        # DSPy's own backoff would be 31 seconds.
        assert time.perf_counter() - started < 25

    def test_a_fault_may_last(self, server):
        """`times=None` fails every request; the retries run out."""
        server.fail("echo", Fault(status=500, times=None))

        with pytest.raises(LMServerError):
            server.lm("echo", num_retries=2)("hello")

        assert statuses(server) == [500, 500, 500]

    def test_the_wait_is_told(self, server):
        """Retry-After reaches DSPy, which is how it knows when to come back."""
        server.fail("echo", Fault(status=429, retry_after_seconds=7.5))

        with pytest.raises(LMRateLimitError) as caught:
            server.lm("echo")("hello")

        assert caught.value.retry_after == 7.5

    def test_the_wait_may_be_left_out(self, server):
        """Without a Retry-After header, the client decides how long to wait."""
        server.fail("echo", Fault(status=429, retry_after_seconds=None))

        with pytest.raises(LMRateLimitError) as caught:
            server.lm("echo")("hello")

        assert caught.value.retry_after is None


class TestBrokenReplies:
    """Replies that break on the way."""

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(drop_connection=True),
            Fault(cut_off=True),
            Fault(malformed_body=True),
        ],
        ids=["dropped", "cut off", "malformed"],
    )
    def test_it_is_an_error_and_then_over(self, server, fault):
        """A broken reply is an exception of the call; the next call is answered."""
        server.fail("echo", fault)
        lm = server.lm("echo")

        with pytest.raises(LMError):
            lm("hello")

        assert lm("hello") == ["hello"]
        assert server.requests[0].fault is fault
        assert server.requests[0].error.endswith("on purpose.")

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(status=500),
            Fault(drop_connection=True),
            Fault(cut_off=True),
            Fault(malformed_body=True),
        ],
        ids=["status", "dropped", "cut off", "malformed"],
    )
    def test_a_stream_breaks_as_well(self, serve, fault):
        """Streamed replies fail in the same ways."""
        server = serve(
            root=fields(lambda inputs: {"answer": "a b c d e f g h"}), faults={"root": fault}
        )
        program = dspy.streamify(
            dspy.Predict("question -> answer"),
            stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
            async_streaming=False,
        )

        with dspy.context(lm=server.lm("root")), pytest.raises(LMError):
            list(program(question="?"))

    def test_a_dropped_connection_has_no_status(self, server):
        """Nothing was sent, and the log says so."""
        server.fail("echo", Fault(drop_connection=True))

        with pytest.raises(LMError):
            server.lm("echo")("hello")

        assert statuses(server) == [None]


class TestDelay:
    """Delayed replies, and clients that time out."""

    def test_a_slow_reply_is_right(self, server):
        """A fault that only delays still lets the player answer."""
        server.fail("echo", Fault(delay_seconds=0.02))

        assert server.lm("echo")("hello") == ["hello"]
        assert server.requests[0].seconds >= 0.02

    def test_a_client_may_lose_patience(self, server):
        """A client's timeout ends its call, whatever the server still waits for."""
        server.fail("echo", Fault(delay_seconds=600))

        with pytest.raises(LMError, match=r"(?i)time"):
            server.lm("echo", timeout=0.1)("hello")

    def test_closing_ends_the_wait(self):
        """A close does not sit out a delay."""
        met = threading.Event()
        fault = Fault(delay_seconds=600, only=lambda request: met.set() is None)
        server = PolicyServer({"echo": echo}, faults={"echo": fault})

        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(server.lm("echo"), "hello")
            assert met.wait(timeout=60)
            server.close()

            assert isinstance(call.exception(timeout=60), LMError)
        assert server.requests[0].error == "The server was closed during a fault's delay."


class TestPlan:
    """The conditions under which a fault applies."""

    def ask(self, server, prompt="hello", model="echo"):
        try:
            server.lm(model)(prompt)
        except LMError:
            return "failed"
        return "answered"

    def test_a_fault_may_come_later(self, server):
        """`after` requests are answered properly first."""
        server.fail("echo", Fault(status=500, after=2))

        assert [self.ask(server) for _ in range(4)] == [
            "answered",
            "answered",
            "failed",
            "answered",
        ]

    def test_faults_come_one_after_the_other(self, server):
        """Several faults are spent in order."""
        server.fail("echo", Fault(status=500), Fault(status=429, after=1), Fault(status=503))

        for _ in range(5):
            self.ask(server)

        assert statuses(server) == [500, 200, 429, 503, 200]

    def test_a_fault_may_concern_some_prompts_only(self, server):
        """Requests that `only` refuses neither fail nor count."""
        server.fail("echo", Fault(status=500, after=1, only=lambda r: "bad" in r.prompt))

        prompts = ["good", "bad", "good", "bad", "bad"]
        assert [self.ask(server, prompt) for prompt in prompts] == [
            "answered",
            "answered",
            "answered",
            "failed",
            "answered",
        ]

    def test_other_models_are_spared(self, server):
        """A fault belongs to one model."""
        server.fail("echo", Fault(status=500, times=None))

        assert self.ask(server, model="other") == "answered"

    def test_faults_may_be_planned_from_the_start(self, serve):
        """The server takes the plan as an argument, one fault or several for a model."""
        server = PolicyServer(
            {"a": echo, "b": echo},
            faults={"a": Fault(status=500), "b": [Fault(status=500), Fault(status=500)]},
        )
        with server:
            assert [self.ask(server, model="a") for _ in range(2)] == ["failed", "answered"]
            assert [self.ask(server, model="b") for _ in range(3)] == [
                "failed",
                "failed",
                "answered",
            ]

    def test_concurrent_requests_share_the_count(self, server):
        """Exactly `times` of many simultaneous requests fail."""
        server.fail("echo", Fault(status=500, times=5))

        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(lambda _: self.ask(server), range(40)))

        assert outcomes.count("failed") == 5

    def test_a_broken_condition_is_an_error_of_the_call(self, server):
        """An exception in `only` is answered like an exception in a player."""
        server.fail("echo", Fault(status=500, only=lambda request: 1 / 0))

        with pytest.raises(LMError, match="ZeroDivisionError"):
            server.lm("echo")("hello")

    def test_an_unknown_model_cannot_fail(self, server):
        """A typo in a plan is an error at once."""
        with pytest.raises(ValueError, match=r"Cannot fail 'ecko'.*Models here: echo, other\."):
            server.fail("ecko", Fault(status=500))


class TestFault:
    """Validation of the settings of a `Fault`."""

    @pytest.mark.parametrize(
        ("settings", "complaint"),
        [
            ({}, "does nothing"),
            ({"status": 500, "drop_connection": True}, "is one of"),
            ({"cut_off": True, "malformed_body": True}, "is one of"),
            ({"status": 200}, "400 to 599"),
        ],
    )
    def test_a_contradiction_is_refused(self, settings, complaint):
        """A fault that does nothing, or two things at once, is a mistake of the test."""
        with pytest.raises(ValueError, match=complaint):
            Fault(**settings)


def test_a_body_is_sent_in_place_of_openais():
    """The words of another server can be played, also with status 200, which needs them."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    got = []
    with PolicyServer({"m": echo}) as server:
        server.fail("m", Fault(status=503, body='{"detail": "asleep"}'))
        server.fail("m", Fault(status=200, body='{"error": "no such path"}'))
        host = server.base_url.removeprefix("http://").removesuffix("/v1")
        for _ in range(2):
            with contextlib.closing(http.client.HTTPConnection(host)) as client:
                client.request("POST", "/v1/chat/completions", body)
                answer = client.getresponse()
                got.append((answer.status, answer.read()))

    assert got == [(503, b'{"detail": "asleep"}'), (200, b'{"error": "no such path"}')]
    with pytest.raises(ValueError, match="A body needs the status"):
        Fault(body="x", delay_seconds=1)
    with pytest.raises(ValueError, match="An error status is 400 to 599"):
        Fault(status=200)
