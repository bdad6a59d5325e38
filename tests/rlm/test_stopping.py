"""Cancel scopes: of some work, of their children, and of calls in flight."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.errors import BudgetExceededError, RunEndedError

ENDED = RunEndedError("over")


class TestStop:
    def test_it_stops_what_is_below_and_not_what_is_above(self):
        """Cancelling a scope cancels its children, not its parents, with the first reason."""
        root = CancelScope()
        child, other = CancelScope(root), CancelScope(root)
        grandchild = CancelScope(child)
        child.cancel(ENDED)
        child.cancel(RunEndedError("again"))
        assert [s.reason for s in (root, other, child, grandchild)] == [None, None, ENDED, ENDED]

        root.cancel(RunEndedError("all"))
        assert str(other.reason) == "all"
        assert child.reason is ENDED
        assert CancelScope(root).reason is root.reason  # too late to begin

    def test_ends_are_called_while_they_matter(self):
        """A callback runs once: at once if the scope was cancelled before, and not after its block."""
        stop, called = CancelScope(), []
        with stop.on_cancel(lambda: called.append("left")):
            pass
        with stop.on_cancel(lambda: called.append("in")):
            stop.cancel(ENDED)
            stop.cancel(ENDED)
        with stop.on_cancel(lambda: called.append("late")):
            pass

        assert called == ["in", "late"]

    def test_all_ends_are_called(self):
        """All registered callbacks are called, even if one of them raises."""
        stop, called = CancelScope(), []

        def bad() -> None:
            raise RuntimeError("can't start new thread")

        with stop.on_cancel(bad), stop.on_cancel(lambda: called.append("other")):
            with pytest.raises(RuntimeError, match="new thread"):
                stop.cancel(ENDED)
            assert called == ["other"]

    def test_what_has_ended_is_not_kept(self):
        """A parent keeps no reference to cancelled children: a run may have any number of sub-runs."""
        root = CancelScope()
        below = [CancelScope(root) for _ in range(3)]
        gone = [weakref.ref(stop) for stop in below]
        for stop in below:
            stop.cancel(ENDED)
        del below, stop
        gc.collect()

        assert [found() for found in gone] == [None, None, None]
        assert root.reason is None

    def test_each_check_raises_an_error_of_its_own(self):
        """Each check raises a fresh copy: many threads may raise it, and each adds to its traceback."""
        stop = CancelScope()
        stop.cancel(BudgetExceededError("over", limit="max_seconds"))
        caught = []
        for _ in range(2):
            with pytest.raises(BudgetExceededError, match="over") as raised:
                stop.check()
            caught.append(raised.value)

        assert [error.limit for error in caught] == ["max_seconds", "max_seconds"]
        assert len({id(error) for error in (stop.reason, *caught)}) == 3
        assert stop.reason.__traceback__ is None

    def test_nothing_is_begun_once_it_is_stopped(self):
        """Nothing starts in a cancelled scope, even if it is cancelled during the start."""

        class StoppedSoon(CancelScope):
            def on_cancel(self, callback):
                self.cancel(ENDED)
                return super().on_cancel(callback)

        begun = threading.Event()
        with pytest.raises(RunEndedError):
            StoppedSoon().run_abandonable(begun.set)
        assert not begun.wait(0.2)

    def test_a_call_is_abandoned(self):
        """The waiting caller gets the reason at once; a later result of the call is dropped."""
        stop, begun, released = CancelScope(), threading.Event(), threading.Event()

        def work() -> str:
            begun.set()
            released.wait()
            return "too late"

        def end() -> None:
            begun.wait()
            stop.cancel(ENDED)

        threading.Thread(target=end).start()
        with pytest.raises(RunEndedError):
            stop.run_abandonable(work)
        released.set()
        with pytest.raises(RunEndedError):
            stop.run_abandonable(lambda: pytest.fail("it was made"))

    def test_a_call_gives_what_it_gives(self):
        """A call returns its result or raises its exception, in the caller's context."""
        mark = contextvars.ContextVar("mark", default="")
        mark.set("mine")
        stop = CancelScope()

        assert stop.run_abandonable(mark.get) == "mine"
        with pytest.raises(ZeroDivisionError):
            stop.run_abandonable(lambda: 1 / 0)

    def test_a_coroutine_is_cancelled(self):
        """A coroutine is cancelled with the scope's reason, unless its caller was cancelled."""

        async def main(stop: CancelScope, *, both: bool) -> None:
            task = asyncio.ensure_future(stop.run_abandonable_async(asyncio.sleep(1000)))
            await asyncio.sleep(0)
            if both:
                task.cancel()
            stop.cancel(ENDED)
            await task

        with pytest.raises(RunEndedError):
            asyncio.run(main(CancelScope(), both=False))
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main(CancelScope(), both=True))

    def test_a_cancellation_of_earlier_does_not_count(self):
        """A task that has caught its cancellation continues like any other."""

        async def main() -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                stop = CancelScope()
                asyncio.get_running_loop().call_soon(stop.cancel, ENDED)
                await stop.run_abandonable_async(asyncio.sleep(1000))

        async def cancelled() -> None:
            task = asyncio.ensure_future(main())
            await asyncio.sleep(0)
            task.cancel()
            await task

        with pytest.raises(RunEndedError):
            asyncio.run(cancelled())
