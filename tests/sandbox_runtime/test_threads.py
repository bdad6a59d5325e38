"""Daemon threads: single ones, timers, and pools that are bounded, abandoned and never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from concurrent.futures import Future

import pytest

from sandbox_runtime.host_costs import MAX_LOST_THREADS
from sandbox_runtime.threads import DaemonPool, call_after, fulfil, run_in_thread, start_thread


@pytest.fixture
def workers():
    """Two threads at most."""
    workers = DaemonPool(2, "host-tool", max_lost=MAX_LOST_THREADS)
    yield workers
    workers.close()


def threads():
    """The number of threads of this test's pools."""
    return sum(thread.name == "host-tool" for thread in threading.enumerate())


def test_results_and_exceptions(workers):
    """The future carries the job's result or its exception."""
    good = workers.submit(lambda: 1)
    bad = workers.submit(lambda: 1 // 0)

    assert good.result(60) == 1
    with pytest.raises(ZeroDivisionError):
        bad.result(60)


def test_no_more_than_its_size_at_a_time(workers):
    """The third job begins when one of the first two has ended."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def job():
        begun.release()
        gate.wait(60)

    jobs = [workers.submit(job) for _ in range(3)]
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    assert not begun.acquire(timeout=0.05)
    gate.set()

    for one in jobs:
        one.result(60)


def test_a_job_that_is_given_up(workers):
    """Its future ends with the error, its slot is free at once, and its later result is dropped."""
    gate = threading.Event()
    stuck = [workers.submit(lambda: gate.wait(30)) for _ in range(2)]
    while not all(job.running() for job in stuck):
        time.sleep(0.001)

    for job in stuck:
        workers.give_up([job], TimeoutError("too long"))

    assert workers.submit(lambda: "next").result(60) == "next"
    with pytest.raises(TimeoutError, match="too long"):
        stuck[0].result(0)
    gate.set()


def test_a_job_in_the_queue_is_dropped(workers):
    """An abandoned job that is still queued never starts."""
    gate, ran = threading.Event(), []
    for _ in range(2):
        workers.submit(lambda: gate.wait(30))
    waiting = workers.submit(lambda: ran.append(1))

    workers.give_up([waiting], TimeoutError())
    gate.set()

    assert waiting.cancelled()
    assert workers.submit(lambda: "last").result(60) == "last"
    assert ran == []


def test_giving_up_what_has_ended(workers):
    """Giving up a job that has ended changes nothing."""
    done = workers.submit(lambda: 1)
    assert done.result(60) == 1

    workers.give_up([done], TimeoutError())

    assert done.result(0) == 1


def test_all_at_once(workers):
    """Queued jobs that are given up do not start in the slots of running ones given up with them."""
    gate, begun = threading.Event(), []

    def job():
        begun.append(1)
        gate.wait(30)

    jobs = [workers.submit(job) for _ in range(50)]
    while len(begun) < 2:
        time.sleep(0.001)

    workers.give_up(jobs, InterruptedError("over"))

    assert workers.submit(lambda: "next").result(60) == "next"
    assert len(begun) == 2
    assert sum(job.cancelled() for job in jobs) == 48
    gate.set()


def test_jobs_that_never_end(workers):
    """Only a bounded number of threads may be lost; then no job starts until one of them ends."""
    gate = threading.Event()
    for _ in range(MAX_LOST_THREADS // 2):
        jobs = [workers.submit(lambda: gate.wait(60)) for _ in range(2)]
        while not all(job.running() for job in jobs):
            time.sleep(0.001)
        workers.give_up(jobs, InterruptedError("over"))

    with pytest.raises(RuntimeError, match="64 abandoned calls are still running"):
        workers.submit(lambda: 1)

    gate.set()
    for _ in range(1000):
        with contextlib.suppress(RuntimeError):
            assert workers.submit(lambda: "again").result(60) == "again"
            return
        time.sleep(0.005)
    raise AssertionError("no thread came back")


def test_many_jobs_from_many_threads():
    """Every job runs exactly once, whichever thread submits it."""
    workers, total = DaemonPool(4, "host-tool"), []
    lock = threading.Lock()

    def add(number):
        with lock:
            total.append(number)

    def feed(start):
        futures = [
            workers.submit(lambda number=number: add(number))
            for number in range(start, start + 100)
        ]
        for future in futures:
            future.result(60)

    feeders = [threading.Thread(target=feed, args=(start,)) for start in range(0, 1000, 100)]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    workers.close()

    assert sorted(total) == list(range(1000))


def test_closing_ends_idle_threads():
    """No thread is left once a pool with idle threads is closed."""
    before, workers = threads(), DaemonPool(3, "host-tool")
    workers.submit(lambda: 1).result(60)

    workers.close()

    for _ in range(1000):
        if threads() <= before:
            break
        time.sleep(0.005)
    assert threads() <= before


def ends(thread_name):
    """Waits until no thread of that name is left."""
    for _ in range(2000):
        if not any(thread.name == thread_name for thread in threading.enumerate()):
            return True
        time.sleep(0.005)
    return False


def test_an_idle_thread_ends():
    """A pool that is never closed leaves no thread behind, and starts one again for the next job."""
    pool = DaemonPool(2, "idle", idle_seconds=0.01)
    assert pool.submit(lambda: 1).result(60) == 1

    assert ends("idle")
    assert pool.submit(lambda: 2).result(60) == 2


def test_a_thread_that_is_kept_until_closed():
    """Without a limit for idle threads all jobs of a pool of one run in the same thread, in order."""
    pool = DaemonPool(1, "kept", idle_seconds=None)
    idents = {pool.submit(threading.get_ident).result(60) for _ in range(3)}
    order = []
    for number in range(5):
        last = pool.submit(lambda number=number: order.append(number))
    pool.close()

    last.result(60)
    assert order == list(range(5))
    assert len(idents) == 1
    assert ends("kept")


def test_closing_without_the_queued_jobs():
    """With `cancel_queued` only the running jobs end."""
    pool, begun, gate = DaemonPool(1, "closed"), threading.Event(), threading.Event()
    running = pool.submit(lambda: begun.set() or gate.wait(30))
    queued = pool.submit(lambda: pytest.fail("it started"))
    assert begun.wait(60)

    pool.close(cancel_queued=True)
    gate.set()

    assert running.result(60)
    assert queued.cancelled()
    assert ends("closed")


def test_every_thread_is_a_daemon_in_the_context_of_its_caller():
    """Jobs see a copy of the caller's context variables, and their threads never delay exit."""
    mark = contextvars.ContextVar("mark", default="")
    mark.set("mine")

    def look():
        seen = mark.get(), threading.current_thread().daemon
        mark.set("changed")
        return seen

    pool = DaemonPool(1, "context")
    assert pool.submit(look).result(60) == ("mine", True)
    assert run_in_thread(look, "context").result(60) == ("mine", True)
    assert mark.get() == "mine"
    pool.close()


def test_exit_waits_for_a_thread_that_is_no_daemon():
    """Only work that is sure to end may ask for it."""
    gate = threading.Event()
    threads = [start_thread(gate.wait, "waiting", daemon=daemon) for daemon in (True, False)]

    assert [thread.daemon for thread in threads] == [True, False]
    gate.set()
    for thread in threads:
        thread.join(60)


def test_awaiting_a_job_leaves_the_event_loop_free():
    """The loop runs other tasks while a coroutine waits for its job."""
    gate = threading.Event()

    async def main():
        pool = DaemonPool(1, "awaited")
        job = asyncio.ensure_future(pool.run(gate.wait, timeout=30))
        await asyncio.sleep(0)
        gate.set()
        assert await job
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        pool.close()

    asyncio.run(main())


def test_work_that_is_abandoned():
    """Completing the future first drops the work's own result, and its exception."""
    gate, ended = threading.Event(), threading.Semaphore(0)

    def late():
        gate.wait(30)
        ended.release()
        raise ValueError("late")

    future = run_in_thread(late, "abandoned")
    future.set_result("early")
    gate.set()

    assert ended.acquire(timeout=60)
    assert ends("abandoned")
    assert future.result(0) == "early"


def test_a_cancelled_future_is_not_fulfilled():
    """Work whose future was cancelled before never runs."""
    future, other = Future(), Future()
    future.cancel()
    fulfil(future, lambda: pytest.fail("it ran"))
    fulfil(other, lambda: 1 // 0)

    assert isinstance(other.exception(0), ZeroDivisionError)


def test_a_timer():
    """It reads the remaining time anew, since that may change, and does nothing after its block."""
    left, rung = [1000.0], threading.Event()
    with call_after(lambda: left[0], rung.set, "timer", poll_seconds=0.01):
        left[0] = 0
        assert rung.wait(30)
    rung.clear()
    left[0] = 1000.0
    with call_after(lambda: left[0], rung.set, "timer", poll_seconds=0.01):
        pass
    left[0] = 0

    assert not rung.wait(0.5)
    assert ends("timer")
