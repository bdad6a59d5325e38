"""Stopping what belongs to a run: its sandboxes, its sub-calls, the runs below it. From any thread, at once.

A run is stopped when it ends, when its caller is cancelled, and for all but its last call when its time is
over. From then on nothing new is sent for it. What cannot be stopped, a request that is on its way or a tool
in a thread, is abandoned: nobody waits for it, and nobody sees its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

T = TypeVar("T")

# How often it is looked how much time is left: that changes with what has to be held back.
LOOK_SECONDS = 0.5


class CancelScope:
    """A stop for some work, and for what is below it. Safe to use from any thread."""

    def __init__(self, above: CancelScope | None = None, *, expected: bool = False) -> None:
        """Lets everything go on.

        Args:
            above: What stops this one too.
            expected: Whether it may be used while calls are under way, so that these are made in a way
                in which they can be abandoned. One below does what those above do.
        """
        self.expected: bool = expected or (above is not None and above.expected)
        self.reason: Exception | None = None
        self._lock = threading.Lock()  # guards the reason, and what is below
        self._ends: dict[object, Callable[[], None]] = {}
        self._leave_above: Callable[[], None] = lambda: None
        if above is not None:
            key = above._join(lambda: self.stop(above.reason or RuntimeError("stopped")))
            self._leave_above = lambda: above._leave(key)

    def stop(self, reason: Exception) -> None:
        """Stops, unless it was stopped before. Never blocks. All that is to end does, also if one raises."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            ends, self._ends = list(self._ends.values()), {}
        with contextlib.ExitStack() as all_of_them:
            all_of_them.callback(self._leave_above)
            for end in reversed(ends):
                all_of_them.callback(end)

    def check(self) -> None:
        """Raises the reason, if it was stopped."""
        if self.reason is not None:
            raise _fresh_copy(self.reason) from None

    @contextlib.contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls `end`, which must not block, if it is stopped in the meantime, or was before."""
        key = self._join(end)
        try:
            yield
        finally:
            self._leave(key)

    def _join(self, end: Callable[[], None]) -> object:
        key = object()
        with self._lock:
            stopped = self.reason is not None
            if not stopped:
                self._ends[key] = end
        if stopped:
            end()
        return key

    def _leave(self, key: object) -> None:
        with self._lock:
            self._ends.pop(key, None)

    # ---- Calls that can be abandoned ----

    def run_abandonable(self, work: Callable[[], T]) -> T:
        """The result of the work; the reason as an exception once it is stopped, whatever the work does.

        The work runs in a thread, in a copy of the caller's context.
        """
        self.check()
        outcome: Future[T] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                result = context.run(work)
            except BaseException as error:  # noqa: BLE001 - who waits sees it
                with contextlib.suppress(InvalidStateError):
                    outcome.set_exception(error)
            else:
                with contextlib.suppress(InvalidStateError):
                    outcome.set_result(result)

        def abandon() -> None:
            with contextlib.suppress(InvalidStateError):
                outcome.set_exception(_fresh_copy(self.reason or RuntimeError("stopped")))

        with self.ending(abandon):
            self.check()
            threading.Thread(target=run, name="rlm-call", daemon=True).start()
            return outcome.result()

    async def run_abandonable_async(self, work: Awaitable[T]) -> T:
        """Like `run_abandonable`, by cancelling."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        before = _cancellations()
        with self.ending(lambda: _cancel_soon(loop, task)):
            try:
                return await task
            except asyncio.CancelledError:
                # Where it is the caller that was cancelled, that goes before.
                if task.cancelled() and _cancellations() == before:
                    self.check()
                raise

    def sleep(self, seconds: float) -> None:
        """Waits for some time; raises the reason once it is stopped."""
        woken = threading.Event()
        with self.ending(woken.set):
            woken.wait(seconds)
        self.check()


def _fresh_copy(reason: Exception) -> Exception:
    """The same error once more: an object that many threads raise has the traceback of them all."""
    made = type(reason).__new__(type(reason), *reason.args)
    vars(made).update(vars(reason))
    return made


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Future[T]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
        loop.call_soon_threadsafe(task.cancel)


def _cancellations() -> int:
    """How often this task was cancelled: those that it has caught stay among them."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def in_background(work: Callable[[], object], *, comes_to_an_end: bool) -> Callable[[], None]:
    """Starts the work in a thread of its own. The host's end waits for it, if it comes to one for sure."""

    def start() -> None:
        threading.Thread(target=work, name="rlm-stop", daemon=not comes_to_an_end).start()

    return start


@contextlib.contextmanager
def after(left: Callable[[], float], work: Callable[[], None]) -> Iterator[None]:
    """Does the work once no seconds are left, if this is not left before."""
    over = threading.Event()

    def watch() -> None:
        while (seconds := left()) > 0:
            if over.wait(min(seconds, LOOK_SECONDS)):
                return
        work()

    threading.Thread(target=watch, name="rlm-clock", daemon=True).start()
    try:
        yield
    finally:
        over.set()
