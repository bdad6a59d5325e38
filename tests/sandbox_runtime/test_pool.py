"""Pools of warm sessions, with real processes."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cells import is_alive

from sandbox_runtime import (
    Completed,
    EngineMissingError,
    HandleType,
    Limits,
    PackageError,
    Pool,
    SandboxStartError,
    Session,
    default_pool,
    set_default_pool,
)
from sandbox_runtime.machine import cpus
from sandbox_runtime.pool import _SessionSpec

LIMITS = Limits(cell_seconds=20)


def wait_until(true: Callable[[], bool]) -> None:
    """Waits until the condition holds; a timeout is a failure."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited for a minute"
        threading.Event().wait(0.01)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A new pool."""
    pool = Pool(2, limits=LIMITS, idle_seconds=60)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def _lender() -> Iterator[Pool]:
    pool = Pool(1, limits=LIMITS, idle_seconds=600)
    yield pool
    pool.close()


@pytest.fixture
def lender(_lender: Pool) -> Iterator[Pool]:
    """A pool with a warm session, for tests that leave it so: a new pool has two sessions to start."""
    if not _lender.warm():
        _lender.lend().close()
    wait_until(lambda: _lender.warm() == 1)
    yield _lender
    # The next test may kill what starts, or take the engine away.
    wait_until(lambda: _lender.warm() == 1 or _lender._maintainer is None)


class TestLend:
    def test_nothing_starts_before_the_first_loan(self):
        """Creating a pool starts no thread and no process."""
        before = set(threading.enumerate())
        pool = Pool(2, limits=LIMITS)

        assert pool.warm() == 0
        assert set(threading.enumerate()) <= before

    def test_a_cold_loan_has_the_borrowers_tools_and_outputs(self, pool):
        """The first loan is equivalent to a session opened for the borrower."""
        self.borrow_for_a_tool(pool)

    def test_the_next_loan_is_a_warm_session(self, lender):
        """After a loan another session is opened in the background; it too has the borrower's tools and outputs."""
        ready = {session.pid for session, _ in lender._warm[_SessionSpec(LIMITS)].warm}

        assert self.borrow_for_a_tool(lender) in ready

    def borrow_for_a_tool(self, pool):
        """Uses a tool and an output of a loan; returns the id of its process."""
        with pool.lend({"double": lambda n: 2 * n}, {"answer": "int"}) as session:
            assert session.run_cell("double(21)") == Completed("42\n")
            assert session.run_cell("SUBMIT(answer=1)").outputs == {"answer": 1}
            return session.pid

    def test_a_warm_session_is_rehearsed(self, lender, opened):
        """V8 has compiled what first cells use; the rehearsed cells leave nothing else behind."""
        names = "sorted(n for n in globals() if not n.startswith('__'))"
        look = "import linecache\nprint('<cell 0>' in linecache.cache)\n" + names
        has_run, before = opened(limits=LIMITS).run_cell(look).output.split("\n", 1)
        with lender.lend() as warm:
            warm_has_run, after = warm.run_cell(look).output.split("\n", 1)
            assert warm.run_cell("rehearse('text')").error_type == "NameError"
            assert warm.run_cell("SUBMIT(answer=1)").outputs == {"answer": 1}

        assert (has_run, warm_has_run) == ("False", "True")
        assert before == after

    @pytest.mark.nightly  # opens more sessions than there are processors
    def test_no_session_is_rehearsed_while_more_runs_than_processors_go_on(self):
        """The runs need the processors more. A session that is not rehearsed is lent all the same."""
        many = math.floor(cpus()) + 1
        pool = Pool(1, limits=LIMITS, idle_seconds=600, max_sessions=many)
        slots = [pool.slot() for _ in range(many)]
        assert all(slot.granted.done() for slot in slots)
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)

        with pool.lend() as warm:
            ran = warm.run_cell("import linecache\nprint('<cell 0>' in linecache.cache)").output
            assert warm.run_cell("SUBMIT(answer=1)").outputs == {"answer": 1}
        for slot in slots:
            slot.release()
        pool.close()

        assert ran == "False\n"

    def test_a_namespace_is_never_lent_twice(self, lender):
        """A borrower's state ends with its loan."""
        seen = set()
        for _ in range(2):
            with lender.lend() as session:
                assert session.pid not in seen
                seen.add(session.pid)
                assert session.run_cell("'x' in globals()") == Completed("False\n")
                session.run_cell("x = 1")

    @pytest.mark.nightly  # `test_a_warm_session_is_rehearsed` is the same path
    def test_other_limits_get_other_sessions(self, pool):
        """A warm session is lent only for the limits that it was started with."""
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)

        with pool.lend(limits=Limits(cell_seconds=20, output_chars=50)) as session:
            assert len(session.run_cell("'x' * 1000").output) < 100
        assert pool.warm() == 1

    def test_a_session_that_died_on_the_shelf_is_not_lent(self, pool):
        """The borrower gets a running session instead."""
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)
        victim = pool._warm[_SessionSpec(LIMITS)].warm[0][0]
        os.kill(victim.pid, 9)
        wait_until(lambda: not victim.alive)

        with pool.lend() as session:
            assert session is not victim
            assert session.run_cell("1") == Completed("1\n")

    @pytest.mark.nightly  # five sessions; borrowers one after another are tested above
    def test_many_borrowers_at_once(self, pool):
        """Each borrower gets its own session; the pool's size bounds the warm ones."""

        def borrow(number: int) -> str:
            with pool.lend({"mine": lambda: number}) as session:
                return session.run_cell("mine()").output

        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(borrow, range(3))) == [f"{n}\n" for n in range(3)]
        wait_until(lambda: pool.warm() == 2)

    def test_what_is_wrong_reaches_the_borrower(self):
        """A pool that cannot open sessions raises the reason, every time."""
        pool = Pool(limits=Limits(start_seconds=0.001))
        for _ in range(2):
            with pytest.raises(SandboxStartError, match="did not come up"):
                pool.lend()
        pool.close()

    def test_an_engine_that_cannot_be_had(self, tmp_path, monkeypatch):
        """The borrower gets an error with the remedy."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
        pool = Pool(limits=LIMITS)

        with pytest.raises(EngineMissingError, match="check the network, or the registry"):
            pool.lend()
        pool.close()

    def test_a_session_that_dies_before_it_is_lent(self, pool, deno_children):
        """A session that dies during the loan is a start error."""

        class Deadly(dict):
            def __iter__(self):
                for pid in deno_children() - before:
                    os.kill(pid, 9)
                return super().__iter__()

        before = deno_children()

        with pytest.raises(SandboxStartError, match="did not come up"):
            pool.lend(Deadly(f=int))

    def test_one_that_does_not_come_up_costs_the_others_nothing(self, pool, deno_children):
        """Warm sessions are lent nevertheless, and none is leaked."""
        before = deno_children()
        both = threading.Barrier(2)

        def lend(_: int) -> Session:
            both.wait(60)  # concurrently, so that the target is two warm sessions
            return pool.lend()

        with ThreadPoolExecutor(2) as threads:
            lent = list(threads.map(lend, range(2)))
        wait_until(lambda: pool.warm() >= 1)
        ready = pool._warm[_SessionSpec(LIMITS)].warm[0][0]
        pids = before | {session.pid for session in (*lent, ready)}

        def on_shelf() -> set[int]:
            return {session.pid for session, _ in pool._warm[_SessionSpec(LIMITS)].warm}

        for _ in range(20):
            wait_until(lambda: deno_children() - pids)
            killed = deno_children() - pids
            for pid in killed:
                os.kill(pid, 9)
            wait_until(lambda killed=killed: not deno_children() & killed or killed & on_shelf())
            if not killed & on_shelf():
                break
            pool.lend().close()  # it had come up before it was killed: a next one starts in its place
        else:
            pytest.fail("no session was killed while it started")

        with pool.lend() as again:
            assert again is ready
        for session in lent:
            session.close()
        pool.close()
        assert deno_children() == before

    def test_a_wrong_tool_name_leaves_no_session_behind(self, lender):
        """The session that was taken for the loan is closed."""
        [(ready, _)] = lender._warm[_SessionSpec(LIMITS)].warm

        with pytest.raises(ValueError, match="not a Python identifier"):
            lender.lend({"1x": print})

        assert ready.closed


class TestEnd:
    def test_idle_sessions_are_closed(self):
        """Sessions without a borrower are closed after a while, and then the maintainer thread ends."""
        pool = Pool(limits=LIMITS, idle_seconds=3)  # long enough to be seen on a busy machine
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)
        wait_until(lambda: pool._maintainer is None)

        assert pool.warm() == 0

    def test_a_closed_pool_keeps_nothing(self, pool):
        """Sessions that were still opening are closed too; the pool can be used again."""
        pool.lend().close()
        pool.close()
        wait_until(lambda: pool._maintainer is None)
        assert pool.warm() == 0

        with pool.lend() as session:
            assert session.run_cell("1") == Completed("1\n")

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("ending", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
    def test_no_process_outlives_the_host(self, ending):
        """However the host ends, its warm sessions end too."""
        program = f"""
import os, threading
from sandbox_runtime import Limits, Pool
from sandbox_runtime.machine import cpus
from sandbox_runtime.pool import _SessionSpec
pool = Pool()
pool.lend().close()
while not pool.warm():
    threading.Event().wait(0.01)
print(pool._warm[_SessionSpec(Limits())].warm[0][0].pid, flush=True)
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

        wait_until(lambda: not is_alive(pid))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_child_leaves_its_parents_sessions_alone(self, lender):
        """The child starts with an empty pool; the parent's session continues."""
        child = os.fork()
        if child == 0:
            os._exit(0 if lender.warm() == 0 else 1)

        assert os.waitpid(child, 0)[1] == 0
        with lender.lend() as session:
            assert session.run_cell("1") == Completed("1\n")


@pytest.mark.parametrize("options", [{"size": -1}, {"idle_seconds": 0}])
def test_a_pool_needs_positive_numbers(options):
    """A size below 0, or a time of 0, is refused."""
    with pytest.raises(ValueError, match="positive"):
        Pool(**options)


def test_a_pool_of_size_0_opens_each_session_when_it_is_lent(deno_children):
    """It keeps nothing warm, starts no thread for that, and closes like any other."""
    with contextlib.closing(Pool(0, limits=LIMITS)) as pool, pool.lend() as session:
        assert session.run_cell("1") == Completed("1\n")
        opened = session.pid
        assert opened in deno_children()
        assert (pool.warm(), pool._maintainer) == (0, None)

    assert opened not in deno_children()


@pytest.mark.parametrize("take", [Pool, lambda packages: default_pool().lend(packages=packages)])
def test_a_text_is_no_list_of_packages(take):
    """A string is refused, not split into its characters."""
    with pytest.raises(PackageError, match=r'write \["networkx"\]'):
        take(packages="networkx")


class TestKinds:
    """Sessions of several specifications share the pool's size."""

    @pytest.mark.nightly  # four sessions; that another specification has other sessions is tested above
    def test_the_kind_of_the_last_loan_has_the_room(self):
        """The least recently lent specification is evicted, and not opened again without a loan."""
        pool = Pool(1)
        kinds = [Limits(cell_seconds=seconds) for seconds in (11, 12)]
        for limits in kinds:
            pool.lend(limits=limits).close()
            wait_until(lambda limits=limits: pool.warm(limits) == 1)
        wait_until(lambda: sum(map(pool.warm, kinds)) == 1)

        assert [pool.warm(limits) for limits in kinds] == [0, 1]
        pool.close()

    def test_types_and_a_loop_are_the_borrowers(self, lender):
        """Types and an event loop do not distinguish specifications: the warm session is lent."""
        rule = HandleType(Photo, preview=lambda photo: "a photo")
        [(ready, _)] = lender._warm[_SessionSpec(LIMITS)].warm

        with lender.lend({"same": lambda photo: photo is KEPT}, types=[rule]) as session:
            assert session is ready
            session.assign("photo", KEPT)
            assert session.run_cell("same(photo)") == Completed("True\n")


class Photo:
    """A value that stays on the host."""


KEPT = Photo()


class TestDefault:
    """The pool that all RLMs of a process share."""

    def test_it_is_one(self):
        """There is one default pool per process."""
        assert default_pool() is default_pool()

    def test_it_can_be_another(self, pool):
        """The pool that was set is the default, until it is taken back."""
        before = default_pool()
        try:
            set_default_pool(None)
            usual = default_pool()
            set_default_pool(pool)
            assert default_pool() is pool
            set_default_pool(None)
            assert default_pool() is usual
        finally:
            set_default_pool(before)

    def test_copies_of_a_pool_are_the_pool(self, pool):
        """Copies of a program, as optimizers create them, share the pool's sessions."""
        assert copy.deepcopy({"pool": pool})["pool"] is pool

    def test_in_another_process_it_is_that_ones(self, pool):
        """Unpickling a pool in another process yields that process's default pool."""
        assert pickle.loads(pickle.dumps(pool)) is default_pool()

    def test_importing_starts_nothing(self):
        """Importing the package starts no thread and no process."""
        program = """
import threading, dspy_rlm
dspy_rlm.RLM("q -> a")
print([thread.name for thread in threading.enumerate() if "sandbox" in thread.name])
"""
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
        )
        assert ended.stdout == "[]\n"


class TestMemory:
    """Warm sessions are a cache: when memory is short, they are the first to go."""

    @pytest.fixture
    def machine(self):
        """A machine whose free memory a test sets, with a pool on it."""
        left = [2**40]
        pool = Pool(1, limits=LIMITS, available=lambda: left[0])
        yield left, pool
        pool.close()

    def test_a_pool_without_memory_keeps_nothing_warm(self, machine):
        """It still lends: the borrower's session is opened for it."""
        left, pool = machine
        left[0] = 0

        with pool.lend() as session:
            assert session.run_cell("1") == Completed("1\n")
        wait_until(lambda: pool._maintainer is None)
        assert pool.warm() == 0

    @pytest.mark.nightly  # waits for several starts
    def test_warm_sessions_are_closed_when_memory_gets_short(self, machine):
        """And opened again when there is enough of it, after the next loan."""
        left, pool = machine
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)
        shelved = pool._warm[_SessionSpec(LIMITS)].warm[0][0]

        left[0] = 2**29
        wait_until(lambda: shelved.closed)
        assert pool.warm() == 0

        left[0] = 2**40
        pool.lend().close()
        wait_until(lambda: pool.warm() == 1)
