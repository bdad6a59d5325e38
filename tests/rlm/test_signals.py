"""The first Ctrl-C or SIGTERM asks the root LM for what it has, the second one stops at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.testing import PolicyServer, asks_for, fields, route

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

KINDS = [signal.SIGINT, signal.SIGTERM]
ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


def reply(code: str) -> str:
    """Writes a reply of the root LM."""
    return f"[[ ## reasoning ## ]]\nBecause.\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"


class Server:
    """A root LM and a sub-LM that send a signal to this process, and then wait for the end of the test."""

    def __init__(self, number: signal.Signals, *codes: str, last: str | None, quick: bool) -> None:
        """Prepares the replies.

        Args:
            number: The signal.
            codes: The code of each turn. A turn without code is the signal.
            last: The code of the last turn, which follows the signal; None for another signal.
            quick: False if the reply of the last turn never comes.
        """
        self._number = number
        self._codes = iter(codes)
        self._last = last
        self._quick = quick
        self._lock = threading.Lock()  # guards the number: a batch is several requests
        self._to_send = 1
        self.over = threading.Event()

    def signal(self, *_: Any) -> str:
        """Sends the signal, and never answers."""
        with self._lock:
            to_send, self._to_send = self._to_send, 0
        for _ in range(to_send):
            # To the main thread, which a terminal's signal reaches too: another would not wake it from a wait for a lock.
            signal.pthread_kill(threading.main_thread().ident, self._number)
        self.over.wait(30)
        return "too late"

    def root(self, request: Any) -> str:
        """Answers a turn."""
        if "The user stops the run" in request.prompt:
            if self._last is None:
                self._to_send = 1
                return self.signal()
            if not self._quick:
                self.over.wait(30)
            return reply(self._last)
        return reply(code) if (code := next(self._codes)) else self.signal()


@pytest.fixture
def start(kept: Any) -> Iterator[Callable[..., Any]]:
    """Returns `start(number, *codes, last=..., **options)`: an RLM whose server sends signals, and this server."""
    servers: list[Server] = []
    handlers = {number: signal.getsignal(number) for number in KINDS}

    def begin(
        number: signal.Signals,
        *codes: str,
        last: str | None = "SUBMIT(answer, 1)",
        quick: bool = True,
        extracts: bool = True,
        **options: Any,
    ) -> tuple[RLM, PolicyServer]:
        one = Server(number, *codes, last=last, quick=quick)
        servers.append(one)
        extract = fields(lambda _: {"answer": "extracted", "n": 2}) if extracts else one.signal
        models = {"root": route((asks_for("code"), one.root), otherwise=extract), "sub": one.signal}
        server = PolicyServer(models)
        server.__enter__()
        entered.append(server)
        rlm = RLM(
            "q -> answer: str, n: int", **{"pool": kept, "sub_lm": server.lm("sub"), **options}
        )
        rlm.set_lm(server.lm("root"))
        return rlm, server

    entered: list[PolicyServer] = []
    with dspy.context(adapter=dspy.ChatAdapter()):
        yield begin
    for one in servers:
        one.over.set()
    for server in entered:
        server.__exit__(None, None, None)
    assert {number: signal.getsignal(number) for number in KINDS} == handlers


FOUND = "answer = 'found'"


@pytest.mark.parametrize("number", KINDS)
def test_a_request_in_flight_is_stopped(start, number):
    """The root LM is asked again, for what it has."""
    rlm, _ = start(number, FOUND, "")
    prediction = rlm(q="?")

    assert (prediction.answer, prediction.n) == ("found", 1)
    assert (prediction.run.status, prediction.run.stopped_by) == ("submitted", "interrupted")
    assert [step.code for step in prediction.run.steps] == [FOUND, "SUBMIT(answer, 1)"]


@pytest.mark.parametrize(
    "code",
    [
        "sub_llm('?')",
        "sub_llm_batched(['a', 'b'])",
        "predict_batched('x -> y', ['a', 'b'])",
    ],
)
def test_a_cell_is_stopped_with_its_sub_calls(start, code):
    """Its step says why, and the variables are as the cell left them, also in its first turn."""
    rlm, _ = start(signal.SIGINT, f"answer = 'from the cell'\n{code}")
    run = rlm(q="?").run

    assert (run.status, run.stopped_by) == ("submitted", "interrupted")
    assert "KeyboardInterrupt: The cell was stopped. The user has stopped" in run.steps[0].output


def test_a_cell_that_computes_is_stopped(start):
    """A signal also stops a cell that calls nothing."""

    def soon() -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    rlm, _ = start(signal.SIGINT, "answer = 'kept'\nsoon()\nwhile True: pass", tools=[soon])

    assert rlm(q="?").answer == "kept"


def test_a_tool_that_keeps_the_main_thread_is_stopped(start):
    """The tool sees an exception, as it would without the handler, and the run goes on to its last turn."""
    seen = []

    def stuck() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            time.sleep(30)
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    rlm, _ = start(signal.SIGINT, f"{FOUND}\nstuck()", tools=[stuck])

    assert rlm(q="?").answer == "found"
    assert seen in ([], ["RunInterruptedError"])  # the signal may come before the sleep


def test_outputs_are_extracted_if_the_last_turn_has_none(start):
    """A last turn that does not submit is followed by the extraction."""
    rlm, _ = start(signal.SIGINT, FOUND, "", last="print('hm')")
    prediction = rlm(q="?")

    assert (prediction.answer, prediction.n) == ("extracted", 2)
    assert (prediction.run.status, prediction.run.stopped_by) == ("extracted", "interrupted")
    assert "interrupted" in prediction.final_reasoning


def test_variables_are_returned_if_no_lm_answers_in_time(start):
    """The time is bounded: an LM that is slow loses the last turn and the extraction."""
    rlm, _ = start(signal.SIGINT, FOUND, "", quick=False, stop_seconds=0.5, on_exhausted="partial")
    prediction = rlm(q="?")

    assert (prediction.answer, prediction.n) == ("found", None)
    assert (prediction.run.status, prediction.run.missing) == ("partial", ("n",))


def test_an_extraction_in_flight_has_the_time_too(start):
    """A signal that comes after the last turn ends the extraction after that time, and the variables are returned."""
    rlm, _ = start(signal.SIGINT, FOUND, extracts=False, max_iterations=1, stop_seconds=0.4)
    prediction = rlm(q="?")

    assert (prediction.answer, prediction.n) == ("found", None)
    assert (prediction.run.status, prediction.run.stopped_by) == ("partial", "interrupted")


@pytest.mark.parametrize("number", KINDS)
def test_the_second_signal_stops_at_once(start, number):
    """It is raised, with the report."""
    rlm, _ = start(number, FOUND, "", last=None)

    with pytest.raises(ENDS[number]) as caught:
        rlm(q="?")
    run = caught.value.run
    assert (run.status, run.stopped_by) == ("failed", ENDS[number].__name__)
    assert [step.code for step in run.steps] == [FOUND]
    if number == signal.SIGTERM:
        assert caught.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("codes", "options"), [(("",), {}), ((FOUND, ""), {"stop_seconds": 0})], ids=["early", "off"]
)
def test_a_signal_that_leaves_nothing_to_submit_is_raised(start, codes, options):
    """Before the first cell there is nothing; and `stop_seconds=0` leaves signals alone."""
    rlm, _ = start(signal.SIGINT, *codes, **options)

    with pytest.raises(KeyboardInterrupt, match=r"its report is error\.run"):
        rlm(q="?")


def test_a_handler_of_the_program_is_kept(start):
    """A run does not replace it, and goes on when it returns."""
    signals = []

    def tool() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    rlm, _ = start(signal.SIGINT, "tool()\nSUBMIT('x', 1)", tools=[tool])
    before = signal.signal(signal.SIGINT, lambda *_: signals.append("mine"))
    try:
        run = rlm(q="?").run
    finally:
        signal.signal(signal.SIGINT, before)

    assert (run.stopped_by, signals) == ("SUBMIT", ["mine"])


def test_a_handler_that_a_tool_has_set_stays(start):
    """The run restores only what it has replaced."""

    def mine(*_: Any) -> None:
        pass

    before = signal.getsignal(signal.SIGINT)
    rlm, _ = start(
        signal.SIGINT,
        "tool()\nSUBMIT('x', 1)",
        tools=[dspy.Tool(lambda: signal.signal(signal.SIGINT, mine) and None, name="tool")],
    )
    try:
        rlm(q="?")
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_inside_a_tool_ends_and_the_outer_one_submits(start, fresh):
    """One signal ends the inner run, and asks the root of the outer one."""
    inner, server = start(signal.SIGINT, FOUND, "", pool=fresh)

    def ask() -> str:
        return str(inner(q="?").answer)

    outer, _ = start(signal.SIGINT, "answer = 'outer'\nask()", tools=[ask])
    prediction = outer(q="?")

    assert (prediction.answer, prediction.run.stopped_by) == ("outer", "interrupted")
    assert "The user stops the run" not in " ".join(one.prompt for one in server.requests)


def test_asyncio_cancels_the_task(start):
    """`asyncio.run` has its own handler: the task is cancelled, and the cancellation has the report."""
    rlm, _ = start(signal.SIGINT, FOUND, "")

    with pytest.raises(KeyboardInterrupt) as caught:
        asyncio.run(rlm.acall(q="?"))
    assert caught.value.__context__.run.stopped_by == "CancelledError"
