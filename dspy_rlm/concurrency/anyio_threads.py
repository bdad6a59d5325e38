"""Writing to DSPy's stream, which `dspy.streamify` reads, from any thread.

DSPy sends only from threads that AnyIO has started. A run has its own threads, for cells, tools and batches;
calls that send to the stream are moved from these to an AnyIO thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
import dspy

from dspy_rlm.dspy_internals.streaming import ServableStatuses, servable
from sandbox_runtime.helpers import fulfil

P = ParamSpec("P")
T = TypeVar("T")

# The interval at which it is checked that the stream is still read. An event loop that ends notifies no one.
POLL_SECONDS = 1.0


class Stream:
    """The stream of a program run by `dspy.streamify`, and the event loop that reads it."""

    def __init__(self, stream: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._raw = stream
        self._loop = loop
        self._late: set[asyncio.Task[None]] = set()

    def send(self, message: Any) -> None:
        """Sends a message, from any thread. It is dropped if the stream is no longer read.

        Blocks while the stream's buffer is full, but never on the loop itself, where the message is sent as
        soon as there is room.
        """
        if self._is_on_loop():
            self._send_from_loop(message)
        elif self._is_read():
            with contextlib.suppress(CancelledError):  # the loop has just ended
                self._send_and_wait(message)

    def reachable(self, function: Callable[P, T]) -> Callable[P, T]:
        """Returns the function, called in a thread from which DSPy can send, in the caller's context.

        If the stream is no longer read, it is called in the caller's thread, without a stream.
        """

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            work = functools.partial(_with_servable_statuses, function, *args, **kwargs)
            result = work() if self._is_on_loop() else self._elsewhere(work)
            # A coroutine runs on the loop, which DSPy would block until there is room for its message.
            return self._await_unblocked(result) if inspect.iscoroutine(result) else result

        return call

    async def _await_unblocked(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with dspy.context(send_stream=_Unblocking(self)):
            return await coroutine

    def send_later(self, message: Any) -> None:
        """Sends a message, from any thread, without waiting."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send_from_loop, message)

    def _is_on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _is_read(self) -> bool:
        """Returns False once the reader or its loop has ended, which is final."""
        return not self._loop.is_closed() and self._raw.statistics().open_receive_streams > 0

    def _send_and_wait(self, message: Any) -> None:
        with self._handed_over(_send_to(self._raw, message)) as sent:
            while not wait([sent], POLL_SECONDS).done:
                if not self._is_read():
                    return
            sent.result()

    def _elsewhere(self, work: Callable[[], T]) -> T:
        """Runs the work once, in an AnyIO thread if possible, otherwise in this thread, and returns its result."""
        if not self._is_read():
            return _without_stream(work)
        job: Future[T] = Future()
        with self._handed_over(_in_worker(functools.partial(fulfil, job, work))) as handed_over:
            while not wait([job], POLL_SECONDS).done:
                if (handed_over.done() or not self._is_read()) and job.cancel():
                    return _without_stream(work)
        return job.result()

    @contextlib.contextmanager
    def _handed_over(self, coroutine: Coroutine[Any, Any, None]) -> Iterator[Future[None]]:
        """Runs the coroutine on the loop. In the loop's last iteration it may never begin."""
        future: Future[None] = Future()
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            yield future
        finally:
            begun = inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
            if self._loop.is_closed() and not begun:
                coroutine.close()

    def _send_from_loop(self, message: Any) -> None:
        try:
            if not self._late:
                self._raw.send_nowait(message)
                return
        except anyio.WouldBlock:
            pass
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return
        # One task for each message; they queue in the order of their creation.
        task = self._loop.create_task(_send_to(self._raw, message))
        self._late.add(task)
        task.add_done_callback(self._late.discard)


class _Unblocking:
    """The stream for code that blocks the loop while it sends."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def send(self, message: Any) -> None:
        """Sends as soon as there is room in the buffer."""
        self.stream.send_later(servable(message))


def current(loop: asyncio.AbstractEventLoop | None = None) -> Stream | None:
    """Returns the stream of the running program; None if there is none, or its loop is unknown.

    Args:
        loop: The event loop of the run. The loop that AnyIO has for this thread takes precedence: in such
            a thread a program may run its own loop.
    """
    stream = dspy.settings.send_stream
    if stream is None:
        return None
    if isinstance(stream, _Unblocking):
        return stream.stream
    try:
        loop = anyio.from_thread.run_sync(asyncio.get_running_loop)
    except RuntimeError:  # a thread that AnyIO does not know
        if loop is None:
            return None
    return Stream(stream, loop)


def reachable(function: Callable[P, T]) -> Callable[P, T]:
    """Returns the function. If the program streams, it runs in a thread from which DSPy can send."""
    stream = current()
    return function if stream is None else stream.reachable(function)


async def _send_to(stream: Any, message: Any) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        await stream.send(message)


async def _in_worker(work: Callable[[], None]) -> None:
    """Runs the work in an AnyIO thread, in the context of this coroutine."""
    # A limiter of its own: work that waits for other work would deadlock on a shared one.
    limiter = anyio.CapacityLimiter(1)
    await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)


def _with_servable_statuses(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls the function; a server can send the status messages of DSPy's callbacks in it."""
    stream = dspy.settings.send_stream
    if stream is None:
        return function(*args, **kwargs)
    with dspy.context(send_stream=ServableStatuses(stream)):
        return function(*args, **kwargs)


def _without_stream(work: Callable[[], T]) -> T:
    """Runs the work without a stream and returns its result."""
    with dspy.context(send_stream=None):
        return work()
