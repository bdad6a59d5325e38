"""Calls that a run gives up: closed at the server at once, and booked as unknown, never as free."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading

import dspy
import pytest

from dspy_rlm import RLM, BudgetExceededError, RunFailedError
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import Fault, PolicyServer

# The time within which a server must see that nothing is waited for any more. Busy machines need more than the 2 s
# of a user.
SECONDS = 30


class Silent:
    """A server that reads requests, never answers, and counts the clients that hang up."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.arrived = threading.Semaphore(0)
        self.hung_up = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(body) < length:
                body += client.recv(65536)
            self.arrived.release()
            with contextlib.suppress(ConnectionResetError):
                client.recv(1)
            self.hung_up.release()

    def lm(self, **options) -> dspy.LM:
        """Returns an LM of this server."""
        return dspy.LM("openai/silent", api_base=self.url, api_key="none", cache=False, **options)

    def close(self) -> None:
        """Stops accepting."""
        self._listener.close()


@pytest.fixture
def silent():
    """A silent server."""
    server = Silent()
    yield server
    server.close()


CALLS = {
    "batch": "print(sub_llm_batched(['a', 'b']))",
    "typed": "print(predict_batched('q -> a', ['a', 'b']))",
    "map": "print(sub_llm.batched(['a', 'b']))",
}


class TestTheServerSeesIt:
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("code", CALLS.values(), ids=CALLS)
    def test_when_the_time_is_over(self, play, silent, code, asynchronous):
        """The connections of sub-calls are closed, not only abandoned, once `max_seconds` is over."""
        rlm, _ = play("q -> a", code, extracted={"a": "x"}, max_seconds=4)
        rlm.sub_lm = silent.lm(num_retries=3)
        result = asyncio.run(rlm.acall(q="")) if asynchronous else rlm(q="")

        assert result.run.stopped_by == "max_seconds"
        assert all(silent.hung_up.acquire(timeout=SECONDS) for _ in range(2))
        calls = [*result.run.sub_calls, *result.run.under_way]
        assert [(call.input_tokens, call.cost) for call in calls] == [(None, None)] * 2

    def test_when_the_caller_is_cancelled(self, play, silent):
        """Cancelling `acall` closes the connections."""
        rlm, _ = play("q -> a", CALLS["batch"])
        rlm.sub_lm = silent.lm()

        async def main() -> None:
            run = asyncio.create_task(rlm.acall(q=""))
            for _ in range(2):
                await asyncio.to_thread(silent.arrived.acquire, timeout=SECONDS)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

        asyncio.run(main())
        assert all(silent.hung_up.acquire(timeout=SECONDS) for _ in range(2))

    def test_when_the_user_interrupts_the_run(self, play, silent):
        """Ctrl-C closes the connections, in a run without any limit too; the report has the calls."""
        rlm, _ = play("q -> a", CALLS["batch"])
        rlm.sub_lm = silent.lm()

        def interrupt() -> None:
            for _ in range(2):
                silent.arrived.acquire(timeout=SECONDS)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt) as raised:
            rlm(q="")

        assert all(silent.hung_up.acquire(timeout=SECONDS) for _ in range(2))
        report = raised.value.run
        assert report.cost is None
        assert len([*report.sub_calls, *report.under_way]) == 2

    def test_when_a_turn_of_the_root_takes_too_long(self, kept, silent):
        """A turn of the root LM that is cut off by `max_seconds` is closed too."""
        with dspy.context(lm=silent.lm()), pytest.raises(RunFailedError):
            RLM("q -> a", max_seconds=2, pool=kept)(q="")

        assert silent.hung_up.acquire(timeout=SECONDS)


class TestTheyAreNeverFree:
    """A request that was sent and not answered may have been answered, and charged, at its server."""

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize(
        ("fault", "options"),
        [
            ({"delay_seconds": 600}, {"timeout": 0.3}),
            ({"drop_connection": True}, {}),
            ({"cut_off": True}, {}),
            *(({"status": status}, {}) for status in (408, 502, 504, 524)),
        ],
        ids=str,
    )
    def test_lost_answers_count_at_their_bound(self, fault, options, asynchronous):
        """A timeout, a broken connection and a gateway's timeout are None in the report, and count at their worst case."""
        ledger = Ledger(Budget(max_tokens=100_000))
        with PolicyServer({"lm": lambda _: "x"}) as server:
            server.fail("lm", Fault(**fault, times=None))
            lm = metered(server.lm("lm", max_tokens=1000, **options), Meter(ledger, "sub_llm", 0))
            with pytest.raises(dspy.LMError):
                asyncio.run(lm.acall("x")) if asynchronous else lm("x")

        (call,) = ledger.sub_calls()
        assert (call.input_tokens, call.output_tokens, call.cost) == (None, None, None)
        assert ledger.left()["tokens"] < 100_000 - 1000
        assert ledger.cost() is None

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("fault", [{"status": 504}, {"drop_connection": True}], ids=str)
    def test_a_lost_candidate_is_not_free(self, fault, asynchronous):
        """Of several candidates, each may be a request of its own: the usage of those that came is not that of all."""
        ledger = Ledger(Budget(max_tokens=100_000))
        with PolicyServer({"lm": lambda _: "x"}) as server:
            server.fail("lm", Fault(**fault, after=2))
            lm = metered(
                server.lm("lm", max_tokens=1000, n=3, temperature=1.0),
                Meter(ledger, "sub_llm", 0),
            )
            with pytest.raises(dspy.LMError):
                asyncio.run(lm.acall("x")) if asynchronous else lm("x")
            assert len(server.requests) == 3

        assert ledger.left()["tokens"] <= 100_000 - 3 * 1000
        assert ledger.cost() is None

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
    def test_refused_requests_are_free(self, status):
        """A request that its server refused costs nothing."""
        ledger = Ledger(Budget(max_tokens=100_000))
        with PolicyServer({"lm": lambda _: "x"}) as server:
            server.fail("lm", Fault(status=status, times=None))
            lm = metered(server.lm("lm", max_tokens=1000), Meter(ledger, "sub_llm", 0))
            with pytest.raises(dspy.LMError):
                lm("x")

        assert ledger.left()["tokens"] == 100_000
        assert ledger.cost() == 0.0

    def test_a_server_that_is_not_there_is_free(self):
        """A connection that was refused has sent nothing."""
        ledger = Ledger(Budget(max_tokens=100_000))
        with socket.create_server(("127.0.0.1", 0)) as gone:
            url = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
        lm = dspy.LM("openai/x", api_base=url, api_key="none", cache=False, num_retries=0)
        with pytest.raises(dspy.LMError):
            metered(lm, Meter(ledger, "sub_llm", 0))("x")

        assert ledger.left()["tokens"] == 100_000

    def test_a_try_that_was_lost_is_in_the_report(self):
        """A retry that succeeds does not hide the try before it, whether the run has limits or not."""
        ledger = Ledger(Budget())
        with PolicyServer({"lm": lambda _: "x"}) as server:
            server.fail("lm", Fault(delay_seconds=600))
            lm = metered(server.lm("lm", num_retries=1, timeout=2.0), Meter(ledger, "sub_llm", 0))
            assert lm("x") == ["x"]

        assert [call.input_tokens is None for call in ledger.sub_calls()] == [True, False]
        assert ledger.cost() is None

    def test_caps_hold_for_calls_that_time_out(self, play):
        """A cell whose calls all time out reaches `max_tokens`, as its provider charges for them."""
        code = (
            "n = 0\nwhile True:\n    try:\n        sub_llm(f'call {n}')\n    except Exception as e:\n"
            "        n += 1\n        if 'max_tokens' in str(e): SUBMIT(n)"
        )
        rlm, server = play("q -> n: int", code, max_tokens=50_000, max_llm_calls=1000)
        rlm.sub_lm = server.lm("sub", max_tokens=4000, timeout=0.1)
        server.fail("sub", Fault(delay_seconds=600, times=None))
        result = rlm(q="")

        assert 2 <= result.n <= 50_000 // 4000 + 1
        assert len(server.requests_to("sub")) <= result.n

    def test_a_refusal_names_the_limit(self):
        """The next call is refused for the limit that the lost one may have used."""
        ledger = Ledger(Budget(max_tokens=1500))
        with PolicyServer({"lm": lambda _: "x"}) as server:
            server.fail("lm", Fault(drop_connection=True))
            lm = metered(server.lm("lm", max_tokens=1000), Meter(ledger, "sub_llm", 0))
            with pytest.raises(dspy.LMError):
                lm("x")
            with pytest.raises(BudgetExceededError, match="max_tokens"):
                lm("x " * 400)
