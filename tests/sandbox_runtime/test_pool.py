"""Warm sessions, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox_runtime import Completed, EngineMissingError, Limits, Session, open_session
from sandbox_runtime.pool import Pool, _Kind

LIMITS = Limits(cell_seconds=20)


def wait_until(true: Callable[[], bool]) -> None:
    """Returns when it is so; a hang is a failure."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited for a minute"
        threading.Event().wait(0.01)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(open_session, size=2, idle_seconds=60)
    yield pool
    pool.close()


class TestLend:
    def test_nothing_starts_before_the_first_loan(self, pool):
        """Making a pool costs nothing."""
        assert pool.warm(LIMITS) == 0
        assert not [t for t in threading.enumerate() if t.name == "sandbox-pool"]

    def test_a_loan_has_the_borrowers_tools_and_outputs(self, pool):
        """Cold or warm, it is as good as one that was opened for him."""
        for _ in range(2):
            with pool.lend(LIMITS, {"double": lambda n: 2 * n}, {"answer": "int"}) as session:
                assert session.run_cell("double(21)") == Completed("42\n")
                assert session.run_cell("SUBMIT(answer=1)").outputs == {"answer": 1}
            wait_until(lambda: pool.warm(LIMITS) == 1)

    def test_the_next_loan_is_a_warm_session(self, pool):
        """After a loan another is made ready in the background."""
        pool.lend(LIMITS).close()
        wait_until(lambda: pool.warm(LIMITS) == 1)
        ready = {session.pid for session, _ in pool._shelves[_Kind(LIMITS)].warm}

        with pool.lend(LIMITS) as session:
            assert session.pid in ready

    def test_a_namespace_is_never_lent_twice(self, pool):
        """What one borrower leaves in it is gone with him."""
        seen = set()
        for _ in range(3):
            with pool.lend(LIMITS) as session:
                assert session.pid not in seen
                seen.add(session.pid)
                assert session.run_cell("'x' in globals()") == Completed("False\n")
                session.run_cell("x = 1")
            wait_until(lambda: pool.warm(LIMITS) == 1)

    def test_other_limits_get_other_sessions(self, pool):
        """A warm session is lent only under the limits that it was started with."""
        pool.lend(LIMITS).close()
        wait_until(lambda: pool.warm(LIMITS) == 1)

        with pool.lend(Limits(cell_seconds=20, output_chars=50)) as session:
            assert len(session.run_cell("'x' * 1000").output) < 100
        assert pool.warm(LIMITS) == 1

    def test_a_session_that_died_on_the_shelf_is_not_lent(self, pool):
        """The borrower gets a living one and notices nothing."""
        pool.lend(LIMITS).close()
        wait_until(lambda: pool.warm(LIMITS) == 1)
        victim = pool._shelves[_Kind(LIMITS)].warm[0][0]
        os.kill(victim.pid, 9)
        wait_until(lambda: not victim._exchange.alive)

        with pool.lend(LIMITS) as session:
            assert session is not victim
            assert session.run_cell("1") == Completed("1\n")

    def test_many_borrowers_at_once(self, pool):
        """Each gets a session of his own; what stays warm is bounded by the pool's size."""

        def borrow(number: int) -> str:
            with pool.lend(LIMITS, {"mine": lambda: number}) as session:
                return session.run_cell("mine()").output

        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(borrow, range(6))) == [f"{n}\n" for n in range(6)]
        wait_until(lambda: pool.warm(LIMITS) == 2)

    def test_what_is_wrong_reaches_the_borrower(self):
        """A pool that cannot open sessions says why, every time."""

        def fail(_limits: Limits) -> Session:
            raise EngineMissingError("nothing there")

        pool = Pool(fail)
        for _ in range(2):
            with pytest.raises(EngineMissingError, match="nothing there"):
                pool.lend(LIMITS)
        pool.close()

    def test_a_wrong_tool_name_leaves_no_session_behind(self, pool):
        """The session that was to be lent is closed."""
        with pytest.raises(ValueError, match="not a Python identifier"):
            pool.lend(LIMITS, {"1x": print})


class TestEnd:
    def test_idle_sessions_are_closed(self):
        """What nobody borrows for a while goes, and the keeper with it."""
        pool = Pool(open_session, idle_seconds=0.5)
        pool.lend(LIMITS).close()
        wait_until(lambda: pool.warm(LIMITS) == 1)
        wait_until(lambda: pool._keeper is None)

        assert pool.warm(LIMITS) == 0

    def test_a_closed_pool_keeps_nothing(self, pool):
        """Also what was still being opened; and it serves again when it is asked."""
        pool.lend(LIMITS).close()
        pool.close()
        wait_until(lambda: pool._keeper is None)
        assert pool.warm(LIMITS) == 0

        with pool.lend(LIMITS) as session:
            assert session.run_cell("1") == Completed("1\n")

    @pytest.mark.parametrize("ending", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
    def test_no_process_outlives_the_host(self, ending):
        """However the host ends, its warm sessions end too."""
        program = f"""
import os, threading
from sandbox_runtime import Limits, open_session
from sandbox_runtime.pool import Pool, _Kind
pool = Pool(open_session)
pool.lend(Limits()).close()
while not pool.warm(Limits()):
    threading.Event().wait(0.01)
print(pool._shelves[_Kind(Limits())].warm[0][0].pid, flush=True)
{ending}
"""
        host = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        pid = int(host.stdout)

        wait_until(lambda: not _runs(pid))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_child_leaves_its_parents_sessions_alone(self, pool):
        """It starts with an empty pool; the parent's session goes on."""
        pool.lend(LIMITS).close()
        wait_until(lambda: pool.warm(LIMITS) == 1)
        child = os.fork()
        if child == 0:
            os._exit(0 if pool.warm(LIMITS) == 0 else 1)

        assert os.waitpid(child, 0)[1] == 0
        with pool.lend(LIMITS) as session:
            assert session.run_cell("1") == Completed("1\n")


def _runs(pid: int) -> bool:
    """True while the process lives; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("options", [{"size": 0}, {"idle_seconds": 0}])
def test_a_pool_needs_positive_numbers(options):
    """A size or time of nothing is refused."""
    with pytest.raises(ValueError, match="positive"):
        Pool(open_session, **options)
