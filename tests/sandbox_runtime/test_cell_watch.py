"""The host's own check of a cell's time; see `rpc/cell_watch.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from sandbox_runtime.rpc.cell_watch import BACKSTOP_SECONDS, LOOK_SECONDS, WALL_FACTOR, CellWatch
from sandbox_runtime.rpc.process import ThreadTimes

MOST = 5.0


def threads(ran: float, waited: float = 0.0) -> Mapping[str, ThreadTimes]:
    """Returns the times of a sandbox whose worker has these; its other threads have done much before the cell."""
    return {"1": ThreadTimes(700.0, 30.0), "2": ThreadTimes(100.0 + ran, waited)}


def ends_after(looks: Iterable[tuple[float, Mapping[str, ThreadTimes]]], waited: float) -> int:
    """Returns how many looks a watch lets a cell have. Before each the host has waited so long."""
    watch = CellWatch(MOST, 0.0)
    for count, (now, times) in enumerate(looks):
        watch.waited(waited)
        if watch.sees_too_much(now, times):
            return count
    raise AssertionError("the cell goes on for ever")


def test_a_thread_that_works_too_long() -> None:
    """A thread has the time of the cell, from the first look on."""
    looks = ((at * LOOK_SECONDS, threads(at * LOOK_SECONDS)) for at in range(100))
    assert ends_after(looks, LOOK_SECONDS) == MOST / LOOK_SECONDS + 1


def test_threads_together_may_work_longer() -> None:
    """V8 compiles in others while the cell works in one."""
    names = [str(number) for number in range(4)]
    looks = ((float(at), {name: ThreadTimes(at / 4, 0.0) for name in names}) for at in range(1000))
    assert ends_after(looks, 0.0) == 4 * MOST + 1


def test_a_busy_machine_ends_no_cell() -> None:
    """Time in which a thread waits for a processor is not the cell's."""
    looks = ((float(at), threads(at * 0.01, at * 0.99)) for at in range(10_000))
    assert ends_after(looks, 1.0) == MOST / 0.01 + 1


def test_a_cell_that_sleeps() -> None:
    """It ends by the backstop, whatever the sandbox says about its clock."""
    looks = ((float(at), threads(0.0)) for at in range(1000))
    assert ends_after(looks, 1.0) == MOST + BACKSTOP_SECONDS


def test_sleep_while_the_host_works_does_not_count() -> None:
    """The host has not waited for the cell then."""
    watch = CellWatch(MOST, 0.0)
    assert not any(watch.sees_too_much(float(at), threads(0.0)) for at in range(1000))


def test_a_system_without_times() -> None:
    """If no thread's time is known, a cell has ten times its own."""
    looks = ((float(at), {}) for at in range(10_000))
    assert ends_after(looks, 1.0) == pytest.approx(WALL_FACTOR * (MOST + BACKSTOP_SECONDS), abs=1)


def test_a_system_that_reports_only_work() -> None:
    """There a cell that sleeps has ten times its own time, and one that works ends as elsewhere."""
    sleeps = ((float(at), {"1": ThreadTimes(3.0, None)}) for at in range(10_000))
    assert ends_after(sleeps, 1.0) == pytest.approx(WALL_FACTOR * (MOST + BACKSTOP_SECONDS), abs=1)
    works = ((float(at), {"1": ThreadTimes(float(at), None)}) for at in range(10_000))
    assert ends_after(works, 1.0) == MOST + 1


def test_threads_that_end_and_begin() -> None:
    """A thread that has ended does not matter; one that began after the first look has begun with the cell."""
    watch = CellWatch(MOST, 0.0)
    assert not watch.sees_too_much(1.0, threads(0.0))
    assert not watch.sees_too_much(2.0, {"3": ThreadTimes(MOST, 0.0)})
    assert watch.sees_too_much(3.0, {"3": ThreadTimes(MOST + 0.1, 0.0)})


def test_looks_are_rare() -> None:
    """To read the times of all threads takes longer than a small call."""
    watch = CellWatch(MOST, 10.0)
    assert not watch.is_due(10.0)
    assert watch.is_due(10.0 + LOOK_SECONDS)
    watch.sees_too_much(11.0, {})
    assert not watch.is_due(11.0)
