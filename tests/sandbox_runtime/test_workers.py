"""Threads for host tools: bounded, abandoned, never joined."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from sandbox_runtime.host_costs import MAX_LOST_THREADS
from sandbox_runtime.tools.thread_pool import Workers


@pytest.fixture
def workers():
    """A pool of at most two threads."""
    workers = Workers(2)
    yield workers
    workers.close()


def threads():
    """Returns the number of this module's threads."""
    return sum(thread.name == "host-tool" for thread in threading.enumerate())


def test_results_and_exceptions(workers):
    """The future gets the job's result or exception."""
    good = workers.submit(lambda future: 1)
    bad = workers.submit(lambda future: 1 // 0)

    assert good.result(10) == 1
    with pytest.raises(ZeroDivisionError):
        bad.result(10)


def test_no_more_than_its_size_at_a_time(workers):
    """The third job starts when one of the first two has ended."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def job(_future):
        begun.release()
        gate.wait(10)

    jobs = [workers.submit(job) for _ in range(3)]
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert not begun.acquire(timeout=0.05)
    gate.set()

    for one in jobs:
        one.result(10)


def test_a_job_that_is_given_up(workers):
    """Its future gets the error and its slot is free; a later result is discarded."""
    gate = threading.Event()
    stuck = [workers.submit(lambda future: gate.wait(30)) for _ in range(2)]
    while not all(job.running() for job in stuck):
        time.sleep(0.001)

    for job in stuck:
        workers.give_up([job], TimeoutError("too long"))

    assert workers.submit(lambda future: "next").result(10) == "next"
    with pytest.raises(TimeoutError, match="too long"):
        stuck[0].result(0)
    gate.set()


def test_a_job_in_the_queue_is_dropped(workers):
    """An abandoned job in the queue never starts."""
    gate, ran = threading.Event(), []
    for _ in range(2):
        workers.submit(lambda future: gate.wait(30))
    waiting = workers.submit(lambda future: ran.append(1))

    workers.give_up([waiting], TimeoutError())
    gate.set()

    assert waiting.cancelled()
    assert workers.submit(lambda future: "last").result(10) == "last"
    assert ran == []


def test_giving_up_what_has_ended(workers):
    """Abandoning a finished job does nothing."""
    done = workers.submit(lambda future: 1)
    assert done.result(10) == 1

    workers.give_up([done], TimeoutError())

    assert done.result(0) == 1


def test_all_at_once(workers):
    """A queued job does not start in the slot of a job that is abandoned with it."""
    gate, begun = threading.Event(), []

    def job(_future):
        begun.append(1)
        gate.wait(30)

    jobs = [workers.submit(job) for _ in range(50)]
    while len(begun) < 2:
        time.sleep(0.001)

    workers.give_up(jobs, InterruptedError("over"))

    assert workers.submit(lambda future: "next").result(10) == "next"
    assert len(begun) == 2
    assert sum(job.cancelled() for job in jobs) == 48
    gate.set()


def test_jobs_that_never_end(workers):
    """The number of lost threads is bounded; beyond it no job starts until one of them ends."""
    gate = threading.Event()
    for _ in range(MAX_LOST_THREADS // 2):
        jobs = [workers.submit(lambda future: gate.wait(60)) for _ in range(2)]
        while not all(job.running() for job in jobs):
            time.sleep(0.001)
        workers.give_up(jobs, InterruptedError("over"))

    with pytest.raises(RuntimeError, match="64 abandoned calls still run"):
        workers.submit(lambda future: 1)

    gate.set()
    for _ in range(1000):
        with contextlib.suppress(RuntimeError):
            assert workers.submit(lambda future: "again").result(10) == "again"
            return
        time.sleep(0.005)
    raise AssertionError("no thread came back")


def test_many_jobs_from_many_threads():
    """No job is lost, and none runs twice."""
    workers, total = Workers(4), []
    lock = threading.Lock()

    def add(number):
        with lock:
            total.append(number)

    def feed(start):
        futures = [
            workers.submit(lambda future, number=number: add(number))
            for number in range(start, start + 100)
        ]
        for future in futures:
            future.result(20)

    feeders = [threading.Thread(target=feed, args=(start,)) for start in range(0, 1000, 100)]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    workers.close()

    assert sorted(total) == list(range(1000))


def test_closing_ends_idle_threads():
    """Closing ends all idle threads."""
    before, workers = threads(), Workers(3)
    workers.submit(lambda future: 1).result(10)

    workers.close()

    for _ in range(1000):
        if threads() <= before:
            break
        time.sleep(0.005)
    assert threads() <= before
