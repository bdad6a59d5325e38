"""Threads in a cell: what the standard library builds on them works, and host calls are in flight at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sandbox_runtime import Completed, Failed, Limits, Session, Submitted, open_session


class Crowd:
    """A host tool that notes how many of its calls ran at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, x: object) -> object:
        with self._lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)
        time.sleep(0.1)
        with self._lock:
            self.now -= 1
        if x == "bad":
            raise ValueError("this one fails")
        return x * 2 if isinstance(x, int) else x


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Session, Crowd]]:
    crowd = Crowd()

    def ask(x: object) -> object:
        """Asks a slow host."""
        return crowd(x)

    with open_session(tools={"ask": ask}, limits=Limits(cell_seconds=20)) as session:
        yield session, crowd


@pytest.fixture
def crowd(shared: tuple[Session, Crowd]) -> Crowd:
    shared[1].most = shared[1].calls = 0
    return shared[1]


def output(shared: tuple[Session, Crowd], code: str) -> str:
    result = shared[0].run_cell(code)
    assert isinstance(result, Completed), result
    return result.output.strip()


MAPS = {
    "executor": "with ThreadPoolExecutor(6) as pool: print(list(pool.map(ask, range(6))))",
    "processes": "with ProcessPoolExecutor(6) as pool: print(list(pool.map(ask, range(6))))",
    "submit": "pool = ThreadPoolExecutor()\n"
    "print([future.result() for future in [pool.submit(ask, i) for i in range(6)]])",
    "Pool": "with multiprocessing.Pool(6) as pool: print(pool.map(ask, range(6)))",
    "starmap": "with multiprocessing.Pool(6) as pool: print(pool.starmap(ask, [(i,) for i in range(6)]))",
    "imap": "with multiprocessing.Pool(6) as pool: print(list(pool.imap(ask, range(6))))",
    "context": "with multiprocessing.get_context('spawn').Pool(6) as pool: print(pool.map(ask, range(6)))",
    "dummy": "pool = multiprocessing.dummy.Pool(6); print(pool.map(ask, range(6)))\n"
    "pool.close(); pool.join()",
    "ThreadPool": "print(multiprocessing.pool.ThreadPool(6).map(ask, range(6)))",
    "to_thread": "print(await asyncio.gather(*[asyncio.to_thread(ask, i) for i in range(6)]))",
    "run_in_executor": "loop = asyncio.get_running_loop()\n"
    "print(await asyncio.gather(*[loop.run_in_executor(None, ask, i) for i in range(6)]))",
    "an executor in a coroutine": "async def main():\n"
    "    with ThreadPoolExecutor(6) as pool: return list(pool.map(ask, range(6)))\n"
    "print(asyncio.run(main()))",
    "threads": "results = [None] * 6\n"
    "def work(i): results[i] = ask(i)\n"
    "threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]\n"
    "for t in threads: t.start()\n"
    "for t in threads: t.join()\n"
    "print(results)",
    "a queue with workers": "jobs, results = queue.Queue(), [None] * 6\n"
    "def work():\n"
    "    while (i := jobs.get()) is not None:\n"
    "        results[i] = ask(i); jobs.task_done()\n"
    "threads = [threading.Thread(target=work) for _ in range(6)]\n"
    "for t in threads: t.start()\n"
    "for i in range(6): jobs.put(i)\n"
    "jobs.join()\n"
    "for t in threads: jobs.put(None)\n"
    "print(results)",
}
IMPORTS = (
    "import asyncio, multiprocessing, multiprocessing.dummy, multiprocessing.pool, queue, threading, time\n"
    "from concurrent.futures import *\n"
)


@pytest.mark.parametrize("code", MAPS.values(), ids=MAPS)
def test_host_calls_are_in_flight_at_once_and_return_in_order(
    code: str, shared: tuple[Session, Crowd], crowd: Crowd
) -> None:
    """Every way to map a function over items calls the host at once, each item once, in order."""
    assert output(shared, IMPORTS + code) == "[0, 2, 4, 6, 8, 10]"
    assert crowd.most >= 3
    assert crowd.calls == 6


def test_a_failed_item_fails_alone(shared: tuple[Session, Crowd]) -> None:
    """The exception of one item is raised by its own future only."""
    code = """
pool = ThreadPoolExecutor(4)
futures = {pool.submit(ask, x): x for x in (1, "bad", 2)}
seen = {}
for future in as_completed(futures):
    seen[futures[future]] = future.exception() or future.result()
print(sorted(map(str, seen.items())))
"""
    assert output(shared, IMPORTS + code) == (
        "[\"('bad', ValueError('this one fails'))\", '(1, 2)', '(2, 4)']"
    )


def test_timeouts_and_cancelled_futures(shared: tuple[Session, Crowd]) -> None:
    """A result that is not there in time raises TimeoutError, and calls that have not started can be cancelled."""
    code = """
pool = ThreadPoolExecutor(1)
first, second = pool.submit(ask, 1), pool.submit(ask, 2)
try: first.result(timeout=0.01)
except TimeoutError: print("late", end=" ")
print(second.cancel(), first.result(), second.cancelled())
"""
    assert output(shared, IMPORTS + code) == "late True 2 True"


def test_locks_events_and_timers(shared: tuple[Session, Crowd]) -> None:
    """A lock excludes other threads across a host call; events, timers, barriers and thread-local values work."""
    code = """
lock, inside, most = threading.Lock(), 0, 0
local = threading.local()
def work(i):
    global inside, most
    local.i = i
    with lock:
        inside += 1; most = max(most, inside); ask(i); inside -= 1
    return local.i
print(list(ThreadPoolExecutor(4).map(work, range(4))), most)
event = threading.Event()
threading.Timer(0.05, event.set).start()
print(event.wait(5), threading.Event().wait(0.01), lock.acquire(timeout=0.01), lock.acquire(blocking=False))
barrier = threading.Barrier(3)
print(sorted(ThreadPoolExecutor(3).map(lambda _: barrier.wait(), range(3))))
reentrant = threading.RLock()
with reentrant, reentrant: print(threading.current_thread() is threading.main_thread())
"""
    assert output(shared, IMPORTS + code).splitlines() == [
        "[0, 1, 2, 3] 1",
        "True False True False",
        "[0, 1, 2]",
        "True",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "queue.Queue().get()",
        "threading.Event().wait()",
        "list(ThreadPoolExecutor(2).map(lambda _: threading.Event().wait(), range(2)))",
    ],
)
def test_a_deadlock_is_an_error(code: str, shared: tuple[Session, Crowd]) -> None:
    """A wait that nothing can end fails with a sentence on what to use, in place of the cell's time limit."""
    result = shared[0].run_cell(IMPORTS + code)
    assert isinstance(result, Failed)
    assert result.error_type == "RuntimeError"
    assert "deadlock" in result.message
    assert "batched" in result.message


def test_a_thread_ends_with_its_cell(shared: tuple[Session, Crowd], crowd: Crowd) -> None:
    """A daemon that is still running when the cell ends is stopped, and the observation says so."""
    code = """
def forever():
    while True: ask(1)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.02)
"""
    assert "[1 thread(s) were still running and are stopped]" in output(shared, IMPORTS + code)
    calls = crowd.calls
    assert output(shared, "time.sleep(0.3); print(threading.active_count())") == "1"
    assert crowd.calls == calls


def test_the_cell_waits_for_its_threads(shared: tuple[Session, Crowd]) -> None:
    """As a script does at its end, a cell waits for threads that are no daemons; idle workers hold nothing up."""
    code = "threading.Thread(target=lambda: print('late', ask(4))).start(); print('first')"
    assert output(shared, IMPORTS + code) == "first\nlate 8"
    assert (
        output(shared, "pool = ThreadPoolExecutor(4); print(pool.submit(ask, 1).result())") == "2"
    )


def test_an_exception_in_a_thread_is_shown(shared: tuple[Session, Crowd]) -> None:
    """A thread's exception is printed, and does not fail the cell."""
    text = output(shared, IMPORTS + "threading.Thread(target=lambda: 1 / 0).start()")
    assert "ZeroDivisionError" in text
    assert "sandbox_runtime" not in text


def test_submit_in_a_thread_ends_the_run(shared: tuple[Session, Crowd]) -> None:
    """SUBMIT counts wherever the cell calls it."""
    code = "ThreadPoolExecutor(2).submit(lambda: SUBMIT(5)).result()"
    result = shared[0].run_cell(IMPORTS + code)
    assert isinstance(result, Submitted)
    assert result.outputs == {"output": 5}


def test_many_threads_and_many_items(shared: tuple[Session, Crowd]) -> None:
    """More threads than may have a stack wait for their turn, and a long map allocates without harm."""
    code = """
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(150)]
for t in threads: t.start()
for t in threads: t.join()
print(len(list(ThreadPoolExecutor(200).map(lambda i: [[]] * i, range(5000)))))
import gc; print(gc.isenabled())
"""
    assert output(shared, IMPORTS + code) == "5000\nTrue"
    assert output(shared, "print(gc.isenabled())") == "True"


def test_the_time_limit_stops_a_thread_that_computes() -> None:
    """A thread in an endless loop is stopped like the cell itself, and the session goes on."""
    with open_session(limits=Limits(cell_seconds=1)) as session:
        spin = "import threading\ndef spin():\n    while True: pass\n"
        result = session.run_cell(spin + "threading.Thread(target=spin).start()")
        assert isinstance(result, Failed)
        assert result.error_type == "CellTimeoutError"
        assert "variables are kept" in result.message
        after = session.run_cell("print(spin.__name__)")
        assert isinstance(after, Completed)
        assert after.output == "spin\n"


class Meeting:
    """A host tool whose batch ends only after a call of another thread."""

    def __init__(self) -> None:
        self._met = threading.Event()

    def wait(self, x: int) -> int:
        assert self._met.wait(60), "the other thread was blocked"
        return x

    def meet(self) -> str:
        self._met.set()
        return "met"


def test_a_batch_in_a_thread_blocks_no_other() -> None:
    """`f.batched` in one thread and a call in another are in flight at once; results and exceptions keep their order."""
    meeting = Meeting()

    def fails(x: int) -> int:
        if x == 2:
            raise ValueError("no")
        return x

    tools = {"wait": meeting.wait, "meet": meeting.meet, "fails": fails}
    with open_session(tools=tools, limits=Limits(cell_seconds=60)) as session:
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor() as pool:\n"
            "    batch = pool.submit(wait.batched, range(3))\n"
            "    other = pool.submit(meet)\n"
            "    print(other.result(), batch.result() == list(range(3)))\n"
            "    print(pool.submit(fails.batched, [1, 2, 3]).result(), pool.submit(fails.batched, []).result())\n"
            "    print(pool.submit(fails.batched, range(3, 903)).result() == list(range(3, 903)))\n"
            "    print(pool.submit(fails.batched, [1], [2]).result())"
        )
        result = session.run_cell(code)

    assert isinstance(result, Completed), result
    *lines, last = result.output.splitlines()[:4]
    assert lines == ["met True", "[1, ValueError('no'), 3] []", "True"]
    assert "too many positional arguments" in last
