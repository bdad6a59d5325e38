"""LMs on a ledger: what DSPy and the user see of them is what they always saw."""

from __future__ import annotations

import asyncio
import copy
import threading

import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.exceptions import LMError, LMServerError

from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.errors import BudgetExceededError, RunEndedError
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import Fault, PolicyServer, fields, rules


@pytest.fixture
def server():
    with PolicyServer(
        {"lm": rules([], default="yes"), "typed": fields(lambda _: {"n": 4})}
    ) as server:
        yield server


def test_it_is_the_users_lm_in_all_but_the_booking(server):
    """A metered LM has the class, options, history and callbacks of the user's; only calls through it are counted."""
    lm = server.lm("lm", temperature=0.2)
    ledger = Ledger(Budget())
    metered_lm = metered(lm, Meter(ledger, "sub_llm", 0))

    assert isinstance(metered_lm, type(lm))
    assert (metered_lm.model, metered_lm.kwargs) == (lm.model, lm.kwargs)
    assert metered_lm("hello") == ["yes"]
    assert lm("again") == ["yes"]
    assert [entry["prompt"] for entry in lm.history] == ["hello", "again"]
    assert ledger.llm_calls == 1


def test_a_metered_lm_is_metered_once(server):
    """Metering an LM again replaces its ledger."""
    outer, inner = Ledger(Budget()), Ledger(Budget())
    lm = metered(metered(server.lm("lm"), Meter(outer, "a", 0)), Meter(inner, "b", 0))
    lm("hello")

    assert (outer.llm_calls, inner.llm_calls) == (0, 1)


def test_nothing_is_sent_beyond_the_budget(server):
    """Calls over the budget, `acall` included, are refused before a request is sent."""
    lm = metered(server.lm("lm"), Meter(Ledger(Budget(max_llm_calls=1)), "a", 0))
    asyncio.run(lm.acall("one"))

    with pytest.raises(BudgetExceededError):
        lm("two")
    with pytest.raises(BudgetExceededError):
        asyncio.run(lm.acall("three"))
    assert len(server.requests) == 1


def test_adapters_use_it_as_they_use_the_original(server):
    """Adapters use a metered LM without a warning, and the caller's usage tracker is updated too."""
    ledger = Ledger(Budget())
    lm = metered(server.lm("typed"), Meter(ledger, "predict", 0))
    with dspy.context(adapter=dspy.ChatAdapter()), dspy.track_usage() as tracker:
        assert dspy.Predict("q -> n: int")(q="?", lm=lm).n == 4

    assert tracker.get_total_tokens()["openai/typed"]["prompt_tokens"] > 0
    assert ledger.usage()[0].input_tokens > 0


def test_other_lms_than_dspys_own(server):
    """A dummy LM and a user's own class are booked like DSPy's LMs."""
    ledger = Ledger(Budget())
    dummy = metered(DummyLM([{"n": "3"}]), Meter(ledger, "a", 0))
    with dspy.context(adapter=dspy.ChatAdapter()):
        assert dspy.Predict("q -> n: int")(q="?", lm=dummy).n == 3

    assert ledger.llm_calls == 1


def test_the_original_can_be_copied_and_dumped(server):
    """Metering leaves the original LM unchanged, so that it can be copied and dumped."""
    lm = server.lm("lm")
    metered(lm, Meter(Ledger(Budget()), "a", 0))("x")

    assert copy.deepcopy(lm)("y") == ["yes"]
    assert "_meter" not in vars(lm)
    assert lm.dump_state()["model"] == "openai/lm"


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_lm_with_a_forward_of_its_own_is_asked_once(asynchronous):
    """An LM with its own `forward` is called once, because DSPy retries only its own LMs."""
    retries = []

    class Own(dspy.LM):
        def forward(self, *_args, **_options):
            retries.append(self.num_retries)
            raise LMServerError("down", model="own")

        async def aforward(self, *args, **options):
            self.forward(*args, **options)

    meter = Meter(Ledger(Budget()), "a", 0, CancelScope(cancellable=True))
    lm = metered(Own("openai/own", api_key="none", cache=False, num_retries=3), meter)
    with pytest.raises(LMServerError):
        asyncio.run(lm.acall("x")) if asynchronous else lm("x")

    assert retries == [3]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_an_abandoned_call_took_is_not_known(asynchronous):
    """The cost of an abandoned call is None, never 0: its server may still answer and charge for it."""
    ledger, stop, released = Ledger(Budget()), CancelScope(cancellable=True), threading.Event()

    def ask(_request):
        stop.cancel(RunEndedError("over"))
        released.wait(60)
        return "too late"

    with PolicyServer({"lm": ask}) as server:
        lm = metered(server.lm("lm"), Meter(ledger, "a", 0, stop))
        with pytest.raises(RunEndedError):
            asyncio.run(lm.acall("x")) if asynchronous else lm("x")
        released.set()
    (call,) = ledger.sub_calls()

    assert (call.input_tokens, call.output_tokens, call.cost) == (None, None, None)
    assert ledger.cost() is None


def test_a_call_that_failed_took_nothing(server):
    """A call that was answered with an error is not charged."""
    ledger = Ledger(Budget())
    lm = metered(server.lm("lm"), Meter(ledger, "a", 0, CancelScope(cancellable=True)))
    server.fail("lm", Fault(status=400))
    with pytest.raises(LMError):
        lm("x")
    (call,) = ledger.sub_calls()

    assert (call.input_tokens, call.output_tokens, call.cost) == (0, 0, 0.0)


@pytest.mark.parametrize("expected", [False, True])
def test_a_stopped_meter_sends_nothing(server, expected):
    """A cancelled meter raises the reason in `__call__` and `acall`, sends nothing and books nothing."""
    ledger, stop = Ledger(Budget()), CancelScope(cancellable=expected)
    lm = metered(server.lm("lm"), Meter(ledger, "a", 0, stop))
    stop.cancel(RunEndedError("over"))
    with pytest.raises(RunEndedError):
        lm("x")
    with pytest.raises(RunEndedError):
        asyncio.run(lm.acall("x"))

    assert (server.requests, ledger.llm_calls, ledger.sub_calls()) == ([], 0, ())
