"""The time of a checkpoint, and the replay of a cell. No process, no clock."""

from __future__ import annotations

import pytest

from sandbox_runtime.host_costs import MAX_REMEMBERED_BYTES, MAX_REPLAY_SECONDS
from sandbox_runtime.rpc.messages import ToolRaised, ToolReturned
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.replay import (
    FIRST_GUESS_SECONDS,
    LARGEST_SHARE,
    MAX_WORK_SECONDS,
    AssignRecord,
    CellRecord,
    ReplayLog,
)

STATE = Checkpoint({}, "engine")

# This long after the last checkpoint another one is cheap.
ENOUGH = FIRST_GUESS_SECONDS / LARGEST_SHARE


@pytest.fixture
def recovery():
    """The replay log of a session that was opened at time 0."""
    recovery = ReplayLog()
    recovery.begin(0.0)
    return recovery


def call(number, arguments="[[],{}]", tool="f", mode="wait"):
    """Returns a tool call of cell 1."""
    return ToolCall(number, 1, tool, mode, arguments, [])


def answered(number, nbytes):
    """Returns an answer of this many bytes."""
    return ToolReturned(number, "bytes", attachments=[bytes(nbytes)])


class TestDue:
    """A checkpoint is taken when it is cheap and saves more than it costs."""

    def test_after_a_long_wait_and_real_work(self, recovery):
        """The time of the LM counts as well as that of the cell."""
        recovery.ran(CellRecord(1, "x"), FIRST_GUESS_SECONDS * 2)

        assert not recovery.due(ENOUGH * 0.9)
        assert recovery.due(ENOUGH * 1.1)

    def test_not_for_little_work(self, recovery):
        """No checkpoint is due while replaying is faster than saving."""
        recovery.ran(CellRecord(1, "x"), FIRST_GUESS_SECONDS / 2)

        assert not recovery.due(ENOUGH * 100)

    def test_not_without_a_cell(self, recovery):
        """Inputs alone are sent again instead."""
        recovery.assigned("x", 1)

        assert not recovery.due(ENOUGH * 100)

    def test_when_too_much_must_be_remembered(self, recovery):
        """The host's memory is bounded, so a checkpoint is due at any cost."""
        ran = CellRecord(1, "x")
        ran.remember(
            call(1), ToolReturned(1, "bytes", attachments=[bytes(MAX_REMEMBERED_BYTES + 1)])
        )
        recovery.ran(ran, 0.0)

        assert recovery.due(0.0)

    def test_when_replaced_values_are_too_large(self, recovery):
        """Replaced values exist only in the log, for the cells that used them, and count."""
        large = "x" * (MAX_REMEMBERED_BYTES // 2 + 1)
        for number in range(3):
            assert not recovery.due(0.0)
            recovery.assigned("x", f"{number}{large}")
            recovery.ran(CellRecord(number, "x"), 0.0)

        assert recovery.due(0.0)

    def test_not_for_large_inputs(self, recovery):
        """Current values do not count, because the session keeps them anyway; a repeated assignment counts once."""
        large = bytes(2 * MAX_REMEMBERED_BYTES)
        for number in range(2):
            recovery.assigned("x", large)
            recovery.ran(CellRecord(number, "x"), 0.0)

        assert not recovery.due(0.0)

    def test_when_there_is_much_code(self, recovery):
        """The code of cells counts too."""
        recovery.ran(CellRecord(1, "#" * (MAX_REMEMBERED_BYTES + 1)), 0.0)

        assert recovery.due(0.0)

    def test_after_a_cell_that_was_stopped(self, recovery):
        """It would not end at the same place: it is saved, not replayed, and without a checkpoint its state is lost."""
        recovery.saved(STATE, now=0.0, cost_seconds=1000.0)
        recovery.ran(CellRecord(7, "x"), 0.0, stopped=True)

        assert recovery.overdue
        assert recovery.why_lost().startswith("cell 7 was stopped")
        recovery.saved(STATE, now=1.0, cost_seconds=1000.0)
        assert (recovery.overdue, recovery.why_lost()) == (False, "")

    def test_the_measured_cost_counts_from_then_on(self, recovery):
        """A large memory is saved less often."""
        recovery.ran(CellRecord(1, "x"), 1.0)
        recovery.saved(STATE, now=10.0, cost_seconds=2.0)
        recovery.ran(CellRecord(2, "x"), 5.0)

        assert not recovery.due(10.0 + 1.9 / LARGEST_SHARE)
        assert recovery.due(10.0 + 2.1 / LARGEST_SHARE)

    def test_not_where_it_is_impossible(self, recovery):
        """After a failed attempt no checkpoint is due any more; everything is replayed instead."""
        recovery.ran(CellRecord(1, "x"), 100.0)
        recovery.cannot_save()

        assert not recovery.due(1e6)

    def test_when_running_them_again_would_take_long(self, recovery):
        """The time of a replay is bounded, so a checkpoint is due at any cost."""
        recovery.saved(STATE, now=0.0, cost_seconds=1000.0)
        recovery.ran(CellRecord(1, "x"), MAX_WORK_SECONDS * 0.9)
        assert not recovery.due(0.0)

        recovery.ran(CellRecord(2, "x"), MAX_WORK_SECONDS * 0.2)

        assert recovery.due(0.0)


class TestBounds:
    """Bounds on the memory and the time of a replay."""

    def test_answers_of_one_cell(self):
        """Beyond the bound none of its answers is kept, nor any later one."""
        ran = CellRecord(1, "x")
        for number in range(80):
            ran.remember(call(number, str(number)), answered(number, 1024 * 1024))

        assert ran.forgotten
        assert not ran.calls
        assert ran.bytes_kept < 100

    def test_calls_without_answers_count_too(self):
        """Calls without an answer count, so that a million of them stay within the bound."""
        ran = CellRecord(1, "x")
        for number in range(MAX_REMEMBERED_BYTES // 512 + 1):
            ran.remember(call(number))

        assert ran.forgotten

    def test_names_of_tools_that_do_not_exist(self):
        """A record has no more memory than it counts, however long the name of the tool is."""
        ran = CellRecord(1, "x")
        for number in range(50):
            name = f"{number}{'x' * 100_000}"
            ran.remember(
                call(number, tool=name), ToolRaised(number, "LookupError", "", "no such tool")
            )

        assert len(ran.calls) == 50
        assert sum(map(len, ran.calls)) < ran.bytes_kept

    def test_a_cell_that_is_forgotten(self, recovery):
        """A checkpoint is due at once; until then the state could not be recovered."""
        ran = CellRecord(7, "x")
        ran.remember(call(1), answered(1, MAX_REMEMBERED_BYTES))
        recovery.ran(ran, 0.1)

        assert recovery.due(0.0)
        assert "cell 7 was answered more than 64 MiB" in recovery.why_lost()
        assert recovery.log == []

        recovery.saved(STATE, 1.0, 0.1)

        assert recovery.why_lost() == ""

    def test_where_no_checkpoint_is_possible(self, recovery):
        """The answers of all cells together are bounded as well."""
        recovery.cannot_save()
        for number in range(3):
            ran = CellRecord(number, "x")
            ran.remember(call(1), answered(1, MAX_REMEMBERED_BYTES // 3))
            recovery.ran(ran, 0.1)

        assert "could not be saved" in recovery.why_lost()
        assert recovery.log == []
        assert not recovery.due(1e6)

    def test_work_that_would_take_long_again(self, recovery):
        """The state is discarded, with the reason."""
        recovery.cannot_save()
        recovery.ran(CellRecord(1, "x"), MAX_REPLAY_SECONDS - 1)
        assert recovery.why_lost() == ""

        recovery.ran(CellRecord(2, "x"), 2.0)

        assert "takes more than 60 s in all" in recovery.why_lost()

    def test_crash_after_crash(self, recovery):
        """The time of all replays is added up."""
        recovery.cannot_save()
        recovery.ran(CellRecord(1, "x"), 20.0)
        for _ in range(2):
            assert recovery.why_lost() == ""
            recovery.replayed(20.0)
        recovery.replayed(1.0)

        assert "takes more than 60 s in all" in recovery.why_lost()

    def test_cells_that_take_longer_the_second_time(self, recovery):
        """A replay that takes too long is aborted."""
        recovery.replayed(MAX_REPLAY_SECONDS)

        with pytest.raises(LookupError, match="more than 60 s"):
            recovery.replayed(0.1)

    def test_a_checkpoint_begins_anew(self, recovery):
        """A checkpoint resets all bounds."""
        recovery.ran(CellRecord(1, "x"), 50.0)
        recovery.replayed(50.0)

        recovery.saved(STATE, 1.0, 0.1)
        recovery.ran(CellRecord(2, "x"), 50.0)

        assert recovery.why_lost() == ""


class TestLog:
    """The log of everything since the checkpoint, in order."""

    def test_a_checkpoint_takes_the_place_of_the_log(self, recovery):
        """The log is empty after a checkpoint."""
        recovery.assigned("x", 1)
        recovery.ran(CellRecord(1, "x"), 1.0)

        recovery.saved(STATE, 1.0, 0.1)
        recovery.assigned("y", 2)

        assert recovery.checkpoint is STATE
        assert recovery.log == [AssignRecord("y", 2)]

    def test_a_variable_that_is_assigned_again(self, recovery):
        """Only the last value before the next cell is sent again."""
        recovery.assigned("x", 1)
        recovery.assigned("x", 2)

        assert recovery.log == [AssignRecord("x", 2)]


class TestReplay:
    """A replayed cell gets the recorded answers."""

    def test_the_same_call_gets_the_same_answer(self):
        """The answer has the new call's id; the tool is not called."""
        ran = CellRecord(1, "x")
        ran.remember(call(5), ToolReturned(5, "json", "1"))

        assert ran.replay()(call(9)) == ToolReturned(9, "json", "1")

    def test_equal_calls_are_answered_in_order(self):
        """Equal calls get their answers in the recorded order, as for a counter."""
        ran = CellRecord(1, "x")
        for number in (1, 2):
            ran.remember(call(number), ToolReturned(number, "json", str(number)))
        answer = ran.replay()

        assert [answer(call(7)).inline, answer(call(8)).inline] == ["1", "2"]

    def test_different_calls_may_come_in_another_order(self):
        """Different calls may be replayed in another order, as concurrent ones are."""
        ran = CellRecord(1, "x")
        ran.remember(call(1, "a", mode="aio"), ToolReturned(1, "json", "A"))
        ran.remember(call(2, "b", mode="aio"), ToolRaised(2, "E", "Exception", "B"))
        answer = ran.replay()

        assert answer(call(1, "b", mode="aio")).message == "B"
        assert answer(call(2, "a", mode="aio")).inline == "A"

    @pytest.mark.parametrize(
        "other", [call(1, "other"), call(1, tool="g"), call(1, mode="batch")], ids=str
    )
    def test_a_call_that_was_not_made(self, other):
        """A new call aborts the replay: no tool may be called a second time."""
        ran = CellRecord(1, "x")
        ran.remember(call(1), ToolReturned(1, "json", "1"))

        with pytest.raises(LookupError, match="cell 1 now calls"):
            ran.replay()(other)

    def test_a_call_that_was_not_answered(self):
        """A call whose answer came after the cell's end gets none in the replay either."""
        ran = CellRecord(1, "x")
        ran.remember(call(1, mode="aio"))
        ran.answered(ran.remember(call(2, mode="aio")), ToolReturned(2, "json", "2"))
        answer = ran.replay()

        assert answer(call(7, mode="aio")) is None
        assert answer(call(8, mode="aio")) == ToolReturned(8, "json", "2")

    def test_twice(self):
        """A cell can be replayed any number of times."""
        ran = CellRecord(1, "x")
        ran.remember(call(1), ToolReturned(1, "json", "1"))

        for _ in range(3):
            assert ran.replay()(call(1)).inline == "1"
