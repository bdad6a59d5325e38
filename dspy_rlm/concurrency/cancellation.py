"""Cancels the work of a run from any thread, at once: its sandboxes, its sub-calls, its sub-runs.

A run is cancelled when it ends, when its caller is cancelled, and, except for its last call, when its time is
over. Nothing new is sent for it afterwards. What cannot be interrupted, such as a request in flight or a tool
in a thread, is abandoned: nothing waits for it, and its result is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

from sandbox_runtime.helpers import run_in_thread, start_thread

T = TypeVar("T")


class CancelScope:
    """Cancels a part of a run, and the scopes below it. Thread-safe."""

    def __init__(self, parent: CancelScope | None = None, *, cancellable: bool = False) -> None:
        """Creates a scope that is not cancelled.

        Args:
            parent: A scope that cancels this one too.
            cancellable: True if `cancel` may be called while LM calls are in flight; they then run in threads
                that can be abandoned. Children inherit it.
        """
        self.cancellable: bool = cancellable or (parent is not None and parent.cancellable)
        # True if a signal may interrupt the calls in flight: those that can be cancelled on the shared loop go there.
        self.interruptible: bool = parent is not None and parent.interruptible
        self.reason: Exception | None = None
        self._lock = threading.Lock()  # guards the reason and the callbacks
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._leave_parent: Callable[[], None] = lambda: None
        if parent is not None:
            key = parent._add(lambda: self.cancel(parent.reason or RuntimeError("cancelled")))
            self._leave_parent = lambda: parent._remove(key)

    @property
    def current(self) -> CancelScope:
        """The scope of the work that begins now; see `RenewableScope`."""
        return self

    def cancel(self, reason: Exception) -> None:
        """Cancels, once. Runs every registered callback, even if one raises. Never blocks."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            callbacks, self._callbacks = list(self._callbacks.values()), {}
        with contextlib.ExitStack() as stack:
            stack.callback(self._leave_parent)
            for callback in reversed(callbacks):
                stack.callback(callback)

    def check(self) -> None:
        """Raises the reason, if the scope was cancelled."""
        if self.reason is not None:
            raise _fresh_copy(self.reason) from None

    def reason_to_raise(self) -> Exception:
        """Returns a copy of the reason, for a thread to raise."""
        return _fresh_copy(self.reason or RuntimeError("cancelled"))

    @contextlib.contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Calls `callback`, which must not block, if the scope is cancelled in the block or was before."""
        key = self._add(callback)
        try:
            yield
        finally:
            self._remove(key)

    def _add(self, callback: Callable[[], object]) -> object:
        key = object()
        with self._lock:
            cancelled = self.reason is not None
            if not cancelled:
                self._callbacks[key] = callback
        if cancelled:
            callback()
        return key

    def _remove(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    # ---- Calls that can be abandoned ----

    def run_abandonable(self, work: Callable[[], T]) -> T:
        """Returns the result of the work; raises the reason once cancelled, even if the work goes on.

        The work runs in a thread, in a copy of the caller's context.
        """
        self.check()
        outcome: Future[T] = Future()

        def abandon() -> None:
            with contextlib.suppress(InvalidStateError):
                outcome.set_exception(self.reason_to_raise())

        with self.on_cancel(abandon):
            self.check()
            return run_in_thread(work, "rlm-call", outcome).result()

    async def run_abandonable_async(self, work: Awaitable[T]) -> T:
        """Like `run_abandonable`, for a coroutine, which is cancelled."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        before = _cancellations()
        with self.on_cancel(lambda: _cancel_soon(loop, task)):
            try:
                return await task
            except asyncio.CancelledError:
                # A cancellation of the caller takes precedence over that of the scope.
                if task.cancelled() and _cancellations() == before:
                    self.check()
                raise

    def sleep(self, seconds: float) -> None:
        """Waits; raises the reason once cancelled."""
        woken = threading.Event()
        with self.on_cancel(woken.set):
            woken.wait(seconds)
        self.check()


class RenewableScope(CancelScope):
    """A scope whose work can be interrupted, after which other work begins in it. What is started binds `current` once."""

    def __init__(self, parent: CancelScope | None = None) -> None:
        """Creates a scope that is not cancelled."""
        super().__init__(parent)
        self._current = CancelScope(self)

    @property
    def current(self) -> CancelScope:
        """The scope of the work that begins now. It is another after an interrupt."""
        return self._current

    def interrupt(self, reason: Exception) -> None:
        """Cancels the work that has begun, and only that."""
        begun, self._current = self._current, CancelScope(self)
        begun.cancel(reason)

    def allow_interrupts(self) -> None:
        """Makes work that begins from now on interruptible where it is an LM call of the thread itself."""
        self.interruptible = self._current.interruptible = True


def _fresh_copy(reason: Exception) -> Exception:
    """Returns an equal error: one object raised in many threads would collect all of their tracebacks."""
    error = type(reason).__new__(type(reason), *reason.args)
    vars(error).update(vars(reason))
    return error


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Future[T]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
        loop.call_soon_threadsafe(task.cancel)


def _cancellations() -> int:
    """Returns the number of cancellations of this task, including those that it has caught."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def in_background(work: Callable[[], object], *, terminates: bool) -> Callable[[], object]:
    """Returns a function that runs the work in a new thread.

    Interpreter exit waits for that thread only if `terminates` is true: the work is sure to end.
    """

    return lambda: start_thread(work, "rlm-cancel", daemon=not terminates)
