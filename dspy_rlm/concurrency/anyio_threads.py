"""DSPy's stream, from any thread: `dspy.streamify` reads it, and what a run does is written to it.

DSPy sends from threads that AnyIO has started, and from no others. A run has threads of its own, for
cells, tools and batches; what is to reach the stream from them is called in one of AnyIO's.
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

from dspy_rlm.concurrency.threads import fulfil

P = ParamSpec("P")
T = TypeVar("T")

# How often it is looked whether somebody still reads. An event loop that ends tells nobody.
LOOK_SECONDS = 1.0


class Stream:
    """The stream that a program of `dspy.streamify` writes to, and the event loop that it is read on."""

    def __init__(self, stream: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._raw = stream
        self._loop = loop
        self._late: set[asyncio.Task[None]] = set()

    def send(self, message: Any) -> None:
        """Sends a message, from any thread. When nobody reads any more, it is dropped.

        Waits while the reader is behind; but never on the loop itself, where a message that finds no room
        is sent as soon as there is some.
        """
        if self._is_here():
            self._send_from_loop(message)
        elif self._is_read():
            with contextlib.suppress(CancelledError):  # the loop ends just now
                self._send_and_wait(message)

    def reachable(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, called in a thread from which DSPy can send, and in the caller's context.

        When nobody reads any more, it is called where the caller is, without a stream.
        """

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            work = functools.partial(function, *args, **kwargs)
            result = work() if self._is_here() else self._elsewhere(work)
            # A coroutine runs on the loop, which DSPy would hold until there is room for its message.
            return self._unblocked(result) if inspect.iscoroutine(result) else result

        return call

    async def _unblocked(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with dspy.context(send_stream=_Unblocking(self)):
            return await coroutine

    def send_later(self, message: Any) -> None:
        """Sends a message, from any thread, and waits for nothing."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send_from_loop, message)

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _is_read(self) -> bool:
        """False once the reader or its loop has ended. None comes back."""
        return not self._loop.is_closed() and self._raw.statistics().open_receive_streams > 0

    def _send_and_wait(self, message: Any) -> None:
        with self._handed_over(_sent(self._raw, message)) as sent:
            while not wait([sent], LOOK_SECONDS).done:
                if not self._is_read():
                    return
            sent.result()

    def _elsewhere(self, work: Callable[[], T]) -> T:
        """The result of the work, which is done once, here if no other thread takes it."""
        if not self._is_read():
            return _unheard(work)
        job: Future[T] = Future()
        with self._handed_over(_in_worker(functools.partial(fulfil, job, work))) as handed_over:
            while not wait([job], LOOK_SECONDS).done:
                if (handed_over.done() or not self._is_read()) and job.cancel():
                    return _unheard(work)
        return job.result()

    @contextlib.contextmanager
    def _handed_over(self, coroutine: Coroutine[Any, Any, None]) -> Iterator[Future[None]]:
        """Has the loop run it. What is handed over in a loop's last round never begins."""
        future: Future[None] = Future()
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
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
        # One task for each, which stand in line in the order in which they were made.
        task = self._loop.create_task(_sent(self._raw, message))
        self._late.add(task)
        task.add_done_callback(self._late.discard)


class _Unblocking:
    """The stream for those who hold the loop while they send."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def send(self, message: Any) -> None:
        """Sends as soon as there is room."""
        self.stream.send_later(message)


def current(loop: asyncio.AbstractEventLoop | None = None) -> Stream | None:
    """The stream of the running program; None if there is none, or none that can be reached.

    Args:
        loop: The event loop that the run goes on. That behind the thread goes before, if AnyIO knows one:
            in such a thread a program may have a loop of its own.
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
    """The function; where a program streams, called so that DSPy can send from it."""
    stream = current()
    return function if stream is None else stream.reachable(function)


async def _sent(stream: Any, message: Any) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        await stream.send(message)


async def _in_worker(work: Callable[[], None]) -> None:
    """Does the work in a thread of AnyIO's, in the context of this coroutine."""
    # A limit of its own: what waits here may wait for others, which a common one would keep out.
    limiter = anyio.CapacityLimiter(1)
    await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)


def _unheard(work: Callable[[], T]) -> T:
    """The result of the work, with nothing sent."""
    with dspy.context(send_stream=None):
        return work()
