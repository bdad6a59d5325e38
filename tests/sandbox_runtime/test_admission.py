"""The admission queue: the order and the bound of granted slots, without a sandbox."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sandbox_runtime import Pool
from sandbox_runtime.admission import FEWEST, AdmissionQueue, default_bound
from sandbox_runtime.machine import available_bytes


def granted(*queue):
    return [slot.granted.done() and not slot.granted.cancelled() for slot in queue]


class TestLine:
    def test_no_more_sit_than_there_are_seats(self):
        """The bound holds, and further requests are granted in the order of their arrival."""
        line = AdmissionQueue(2)
        a, b, c, d = (line.request() for _ in range(4))
        assert granted(a, b, c, d) == [True, True, False, False]

        b.release()
        assert granted(c, d) == [True, False]
        assert (line.held, line.waiting) == (2, 1)

    def test_leaving_the_line_moves_the_others_up(self):
        """Cancelling a request advances the queue; releasing twice frees no other slot."""
        line = AdmissionQueue(1)
        a, b, c = (line.request() for _ in range(3))
        b.release()
        b.release()
        a.release()
        a.release()

        assert granted(a, b, c) == [True, False, True]
        assert (line.held, line.waiting) == (1, 0)

    def test_who_has_a_seat_gets_one_below_it(self):
        """The first child is admitted at once, at any depth; a second concurrent one queues."""
        line = AdmissionQueue(1)
        root, other = line.request(), line.request()
        child = line.request(parent=root)
        grandchild, sibling = line.request(parent=child), line.request(parent=root)
        assert granted(root, other, child, grandchild, sibling) == [True, False, True, True, False]

        grandchild.release()
        assert granted(other, sibling) == [False, False]
        child.release()
        assert granted(other, sibling) == [False, True]  # it has a waiter, the other has none
        sibling.release()
        root.release()
        assert granted(other) == [True]

    def test_a_seat_that_was_left_holds_nothing(self):
        """A request whose parent was released queues like any other."""
        line = AdmissionQueue(1)
        gone = line.request()
        gone.release()
        line.request()

        assert granted(line.request(parent=gone)) == [False]

    def test_nobody_waits_for_those_below_a_seat_that_was_left(self):
        """Queued children lose their priority when the parent is released."""
        line = AdmissionQueue(1)
        root, other = line.request(), line.request()
        child, sibling = line.request(parent=root), line.request(parent=root)
        root.release()
        assert granted(other, sibling) == [False, False]

        child.release()
        assert granted(other, sibling) == [True, False]

    def test_a_nest_of_runs_costs_strangers_no_patience(self):
        """Children admitted at once do not lengthen the stall time of other requests."""
        line = AdmissionQueue(1, stall_seconds=0.05)
        slot = line.request()
        for _ in range(12):
            slot = line.request(parent=slot)
        stranger = line.request()
        waiter = threading.Thread(target=stranger.wait, daemon=True)
        waiter.start()
        waiter.join(30)

        assert granted(stranger) == [True]

    def test_where_nothing_moves_the_first_is_let_in(self):
        """A stalled queue admits its first request: holders may depend on it invisibly, for example through threads."""
        line = AdmissionQueue(1, stall_seconds=0.05)
        line.request()
        done = threading.Thread(target=line.request().wait)
        done.start()
        done.join(30)

        assert not done.is_alive()
        assert line.held == 2

    def test_slow_runs_do_not_undo_the_bound(self):
        """Each admission beyond the bound doubles the time until the next one."""
        line = AdmissionQueue(1, stall_seconds=0.05)
        queue = [line.request() for _ in range(12)]

        async def main() -> None:
            waiting = [asyncio.ensure_future(slot.acquire_async()) for slot in queue]
            await asyncio.sleep(1)
            for task in waiting:
                task.cancel()

        asyncio.run(main())
        assert 1 < line.held < 11  # without doubling, all of them in 0.6 s; the eleventh takes 51 s

    def test_waiting_ends_when_the_line_is_left(self):
        """Releasing a request wakes its waiter, also from another thread."""
        line = AdmissionQueue(1)
        line.request()
        slot = line.request()
        done = threading.Thread(target=slot.wait)
        done.start()
        slot.release()
        done.join(30)

        assert not done.is_alive()

    def test_many_threads_and_loops(self):
        """The bound holds under concurrency, and every request is granted."""
        line, most, lock = AdmissionQueue(3), [0], threading.Lock()

        def note() -> None:
            with lock:
                most[0] = max(most[0], line.held)

        def sitting() -> None:
            slot = line.request()
            slot.wait()
            note()
            slot.release()

        async def coming() -> None:
            slot = line.request()
            await slot.acquire_async()
            note()
            await asyncio.sleep(0)
            slot.release()

        async def many() -> None:
            await asyncio.gather(*(coming() for _ in range(100)))

        threads = [threading.Thread(target=sitting) for _ in range(30)]
        threads += [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert not any(thread.is_alive() for thread in threads)
        assert most[0] <= 3
        assert (line.held, line.waiting) == (0, 0)


class TestPool:
    def test_the_bound_is_the_machines_by_default(self):
        """The default bound is at least 1 on any machine."""
        assert Pool().max_sessions == default_bound() >= FEWEST

    def test_a_bound_is_a_number(self):
        """The bound must be 1 or more."""
        with pytest.raises(ValueError, match="max_sessions of 1 or more"):
            Pool(max_sessions=0)


class TestAvailableBytes:
    """The memory that is left: the machine's or the container's, whichever is less."""

    MEMINFO = "MemTotal:       24000000 kB\nMemFree:         100 kB\nMemAvailable:    3000 kB\n"

    def system(self, folder, meminfo=None, **group):
        """Creates the files that a system says it in."""
        (folder / "proc").mkdir()
        (folder / "sys/fs/cgroup").mkdir(parents=True)
        if meminfo is not None:
            (folder / "proc/meminfo").write_text(meminfo)
        for name, text in group.items():
            (folder / f"sys/fs/cgroup/memory.{name}").write_text(text)
        return folder

    def test_a_machine(self, tmp_path):
        """All memory that can be allocated without swapping counts, not only the unused memory."""
        assert available_bytes(self.system(tmp_path, self.MEMINFO)) == 3000 * 1024

    def test_a_container(self, tmp_path):
        """Its own limit counts, and the files that it caches do not."""
        group = {
            "max": "2000000\n",
            "current": "1900000\n",
            "stat": "anon 5\nactive_file 300000\ninactive_file 100000\nfile_mapped 7\n",
        }

        assert available_bytes(self.system(tmp_path, self.MEMINFO, **group)) == 500_000

    def test_a_container_without_a_limit(self, tmp_path):
        """The machine's memory counts."""
        group = {"max": "max\n", "current": "1\n", "stat": ""}

        assert available_bytes(self.system(tmp_path, self.MEMINFO, **group)) == 3000 * 1024

    @pytest.mark.parametrize("meminfo", [None, "", "MemAvailable:", "MemAvailable: many kB"])
    def test_another_system(self, tmp_path, meminfo):
        """The available memory is unknown if no file of the system states it."""
        assert available_bytes(self.system(tmp_path, meminfo)) is None
