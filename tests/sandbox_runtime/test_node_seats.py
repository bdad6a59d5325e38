"""The seats that all processes of a node share: counted together, freed by any death, handed over in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sandbox_runtime.admission import AdmissionQueue
from sandbox_runtime.node_seats import FOLDER_VARIABLE, NodeSeats

# Takes so many seats of a folder, says so, and holds them until it is killed or its input ends.
_HOLDER = """
import sys
from pathlib import Path
from sandbox_runtime.node_seats import NodeSeats

seats = NodeSeats(int(sys.argv[2]), Path(sys.argv[1]))
print([seats.take() for _ in range(int(sys.argv[3]))], flush=True)
if len(sys.argv) > 4:
    seats.wait(True)
    print("waits", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process(tmp_path):
    """Starts another process that holds seats."""
    children = []

    def start(most, count, *, waits=False):
        command = [sys.executable, "-c", _HOLDER, str(tmp_path), str(most), str(count)]
        child = subprocess.Popen(
            command + ["waits"] * waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        for _ in range(1 + waits):
            assert child.stdout.readline()
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


class TestSeats:
    def test_processes_are_counted_together(self, tmp_path, other_process):
        """Two processes on one node have its seats, not twice as many."""
        other_process(3, 2)
        seats = NodeSeats(3, tmp_path)

        assert seats.take() is not None
        assert seats.take() is None

    def test_a_killed_process_keeps_none(self, tmp_path, other_process):
        """SIGKILL frees the seats of a process: the kernel holds the locks."""
        child = other_process(2, 2)
        seats = NodeSeats(2, tmp_path)
        assert seats.take() is None

        child.kill()
        child.wait()

        assert {seats.take(), seats.take()} == {0, 1}
        assert seats.take() is None

    def test_a_released_seat_can_be_taken_again(self, tmp_path):
        """A seat is free once its sandbox is closed."""
        seats, other = NodeSeats(1, tmp_path), NodeSeats(1, tmp_path)
        seat = seats.take()
        assert other.take() is None

        seats.release(seat)

        assert other.take() == 0

    def test_two_pools_of_a_process_share_them_too(self, tmp_path):
        """A lock belongs to the open file, not to the process."""
        one, two = NodeSeats(4, tmp_path), NodeSeats(4, tmp_path)

        assert sorted([one.take(), two.take(), one.take(), two.take()]) == [0, 1, 2, 3]
        assert one.take() is two.take() is None

    def test_a_process_sees_that_another_one_waits(self, tmp_path, other_process):
        """Its own wait is none of others."""
        seats = NodeSeats(1, tmp_path)
        seats.wait(True)
        assert not seats.others_wait()

        child = other_process(1, 0, waits=True)
        assert seats.others_wait()

        child.kill()
        child.wait()
        assert not seats.others_wait()

    def test_without_a_folder_nothing_is_counted(self, tmp_path):
        """A sandbox that cannot be counted is better than none."""
        (tmp_path / "file").write_text("")
        seats = NodeSeats(1, tmp_path / "file")

        assert seats.take() == -1
        assert seats.take() == -2
        seats.release(-1)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_a_folder_of_another_user_is_not_used(self, tmp_path):
        """Its owner could hold all seats forever."""
        os.chown(tmp_path, 12345, -1)

        assert NodeSeats(1, tmp_path).take() == -1

    def test_the_folder_can_be_named(self, tmp_path, monkeypatch):
        """Containers that share a node share a mounted folder."""
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "run"))

        assert NodeSeats(1).take() == 0
        assert (tmp_path / "run/seats/seat-0.lock").exists()

    def test_a_forked_child_frees_nothing(self, tmp_path):
        """Its copy of the open files holds the locks too, and closing it releases nothing."""
        seats, other = NodeSeats(1, tmp_path), NodeSeats(1, tmp_path)
        seats.take()

        child = os.fork()
        if child == 0:
            seats.forget()
            os._exit(0)
        os.waitpid(child, 0)

        assert other.take() is None


class TestQueue:
    def test_a_request_waits_for_a_seat_of_another_process(self, tmp_path, other_process):
        """It is admitted when the other process ends."""
        child = other_process(1, 1)
        line = AdmissionQueue(1, seats=NodeSeats(1, tmp_path))
        slot = line.request()
        assert not slot.granted.done()

        child.kill()
        child.wait()
        slot.granted.result(60)

        assert slot.seat == 0
        slot.release()
        assert (line.held, line.waiting) == (0, 0)

    def test_a_first_child_never_waits_for_a_seat(self, tmp_path):
        """Its parent waits for it: beyond the bound if need be."""
        line = AdmissionQueue(1, seats=NodeSeats(1, tmp_path))
        parent = line.request()

        child = line.request(parent)

        assert child.granted.done()
        assert child.seat is None

    def test_a_queue_with_its_own_bound_does_not_wait(self, tmp_path):
        """`Pool(max_sessions=...)` is the program's own decision; it takes seats so that others see them."""
        own = AdmissionQueue(2, seats=NodeSeats(2, tmp_path), needs_seat=False)
        others = AdmissionQueue(2, seats=NodeSeats(2, tmp_path))
        first, second = own.request(), own.request()
        assert {first.seat, second.seat} == {0, 1}

        waiting = others.request()
        assert not waiting.granted.done()
        third = AdmissionQueue(2, seats=NodeSeats(2, tmp_path), needs_seat=False).request()

        assert third.granted.done()
        assert third.seat is None
        waiting.release()

    def test_seats_are_handed_over_in_turn(self, tmp_path):
        """A process that always has something to do leaves the seat that it frees to one that waits."""
        busy = AdmissionQueue(1, seats=NodeSeats(1, tmp_path))
        other = AdmissionQueue(1, seats=NodeSeats(1, tmp_path))
        ended, got_one = threading.Event(), threading.Event()
        first = busy.request()
        assert first.granted.done()

        def work(slot):
            while not ended.is_set():
                after = busy.request()
                slot.release()
                slot = after
                while not ended.is_set() and not slot.granted.done():
                    ended.wait(0.01)
            slot.release()

        waiting = other.request()
        waiting.granted.add_done_callback(lambda _: got_one.set())
        thread = threading.Thread(target=work, args=(first,))
        thread.start()
        try:
            assert got_one.wait(30)
        finally:
            ended.set()
            thread.join()
            waiting.release()
