"""The books of a cell's open calls: who may answer which, and what no cell may do."""

from __future__ import annotations

import pytest

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.open_calls import MAX_OPEN_CALLS, OpenCalls
from sandbox_runtime.rpc.sandbox_messages import ToolCall

REQUEST = 77


def call(number, mode="aio", request=REQUEST):
    return ToolCall(number, request, "f", mode, "[[],{}]", [])


def test_an_answer_is_claimed_once():
    """The first claim wins, the second is refused."""
    calls = OpenCalls(REQUEST)
    calls.begin(call(1))

    assert [calls.claim(1), calls.claim(1)] == [True, False]


def test_a_call_that_was_never_made_cannot_be_claimed():
    """Only open calls have answers."""
    assert not OpenCalls(REQUEST).claim(1)


@pytest.mark.parametrize("mode", ["wait", "batch"])
def test_a_blocking_call_is_claimed_by_an_interrupt_or_by_its_answer(mode):
    """Whichever comes first."""
    calls = OpenCalls(REQUEST)

    calls.begin(call(1, mode))
    assert [calls.claim_blocking(), calls.claim(1), calls.claim_blocking()] == [1, False, None]

    calls.begin(call(2, mode))
    assert [calls.claim(2), calls.claim_blocking()] == [True, None]


def test_awaited_calls_do_not_block():
    """An interrupt claims only the call that the cell is blocked for."""
    calls = OpenCalls(REQUEST)
    calls.begin(call(1))
    calls.begin(call(2, "wait"))
    calls.begin(call(3))

    assert calls.claim_blocking() == 2
    assert [calls.claim(1), calls.claim(3)] == [True, True]


@pytest.mark.parametrize(("running", "request_id"), [(REQUEST, 1), (REQUEST, 0), (None, 0)])
def test_a_call_for_another_cell(running, request_id):
    """A call carries the number of the running cell's request; between cells none does."""
    with pytest.raises(ProtocolError, match="does not run"):
        OpenCalls(running).begin(call(1, request=request_id))


def test_the_same_call_twice():
    """A number is free again only after its answer."""
    calls = OpenCalls(REQUEST)
    calls.begin(call(1))
    with pytest.raises(ProtocolError, match="twice"):
        calls.begin(call(1))

    calls.claim(1)
    calls.begin(call(1))


def test_too_many():
    """So many calls may be open, and no more."""
    calls = OpenCalls(REQUEST)
    for number in range(MAX_OPEN_CALLS):
        calls.begin(call(number))

    with pytest.raises(ProtocolError, match="too many"):
        calls.begin(call(MAX_OPEN_CALLS))
