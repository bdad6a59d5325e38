"""The tests' shared pool: its sessions are empty when lent, and a damaged one is not lent again."""

from __future__ import annotations

import os
import signal

import pytest
from thrifty_pool import ThriftyPool

from sandbox_runtime import Completed, Failed, Limits, SessionClosedError


@pytest.fixture
def pool():
    """A separate pool for one test."""
    pool = ThriftyPool()
    yield pool
    pool.close()


def test_a_session_is_lent_again_without_what_was_in_it(pool):
    """A session that is lent again has no variables, tools, SUBMIT fields or imports of the last borrower."""
    with pool.lend({"tool": lambda: 1}, {"a": "int"}) as session:
        session.assign("x", 1)
        assert isinstance(session.run_cell("import math; y = x + tool()"), Completed)
        first = session.pid
    with pool.lend() as session:
        ended = session.run_cell("print([n for n in ('x', 'y', 'math') if n in globals()])")
        missing = session.run_cell("tool()")
        assert session.pid == first

    assert ended == Completed("[]\n")
    assert isinstance(missing, Failed)


def test_a_loan_ends_once(pool):
    """A closed loan can no longer be used, and closing it again does not end the next borrower's."""
    old = pool.lend()
    old.close()
    with pool.lend() as session:
        old.close()
        with pytest.raises(SessionClosedError):
            old.run_cell("1")
        assert session.run_cell("1") == Completed("1\n")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("limits", [Limits(), Limits(memory_bytes=256 * 2**20)])
def test_a_session_that_a_test_has_changed_for_good_is_ended(pool, limits):
    """A session is closed if its process was replaced or its limits are rarely used."""
    with pool.lend(limits=limits) as session:
        os.kill(session.pid, signal.SIGKILL)
        session.run_cell("1")
        assert session.restarts == 1
        first = session.pid
    with pool.lend(limits=limits) as session:
        assert session.pid != first


def test_two_at_the_same_time_are_two(pool):
    """Two loans at the same time use two sessions."""
    with pool.lend() as one, pool.lend() as other:
        assert one.pid != other.pid
