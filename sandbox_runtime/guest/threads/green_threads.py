"""Green threads: `threading.Thread`, and all that the standard library builds on it, without threads of the system.

WebAssembly has none here. A thread is a callback of the event loop with a stack of its own: when it waits for a
host call, a lock or `time.sleep`, its stack is suspended, and the others run. So the calls of many threads are in
flight at once, while Python code runs in one of them at a time. A thread belongs to the cell that started it and
ends with it.

Knows stacks and whose turn it is. `locks.py` builds on `GreenThreads.wait`, and `thread_modules.py` puts both
into the standard library.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable

# By name: a cell that replaces it in its module does not replace it here.
from contextvars import Context, copy_context
from types import MappingProxyType
from typing import Any

from sandbox_runtime.guest.callback_ownership import Ownership
from sandbox_runtime.guest.interrupts import THREAD_CODES, Interrupts
from sandbox_runtime.guest.tasks import all_tasks, resolve, settles

# More wait until one has ended: the suspended stacks lie one below the other in a few MB.
MAX_THREADS = 64

# The interval at which a waiting cell looks for a deadlock.
DEADLOCK_SECONDS = 0.1

# Threads that are to end get this many turns of the event loop.
UNWIND_TURNS = 1000

# They get this many locks without waiting, for their cleanup.
GRANTS_AT_END = 1000

_USE_BATCHED = "Use f.batched(items), which calls a host function for all items at once."


class Handle:
    """A thread as `threading.Thread` sees it: replaces `_thread._ThreadHandle`."""

    def __init__(self) -> None:
        """Starts as the handle of a thread that was not started."""
        self.ident = 0
        self._done = False
        self._joining: list[asyncio.Future[bool]] = []
        self._threads: GreenThreads | None = None

    def is_done(self) -> bool:
        """Returns whether the thread has ended."""
        return self._done

    def join(self, timeout: float | None = -1) -> None:
        """Waits for the end of the thread, for at most this many seconds if the number is not negative."""
        if self._threads is None:
            raise RuntimeError("thread not started")
        if self.ident == self._threads.now:
            raise RuntimeError("Cannot join current thread")
        if not self._done:
            self._threads.wait(self._joining, -1 if timeout is None else timeout)

    def _set_done(self) -> None:
        self._done = True
        for future in self._joining:
            resolve(future, True)
        self._joining.clear()


class GreenThreads:
    """The threads of the running cell."""

    def __init__(
        self,
        loop: Any,
        run_sync: Callable[[Awaitable[Any]], Any],
        ownership: Ownership,
        interrupts: Interrupts,
        main_ident: int,
        set_idle: Callable[[bool], object],
    ) -> None:
        """Starts with the main thread alone, which runs the cell.

        Args:
            loop: The event loop, whose callbacks have stacks of their own.
            run_sync: Suspends the current stack until an awaitable is done.
            ownership: The running cell.
            interrupts: Its stop.
            main_ident: The identifier of the main thread.
            set_idle: Notes whether the cell only waits; see `pythonGlobals()`.
        """
        self._loop = loop
        self._run_sync = run_sync
        self._ownership = ownership
        self._interrupts = interrupts
        self._set_idle = set_idle
        self.main = self.now = main_ident
        """The identifiers of the main thread, and of the one whose stack runs."""
        self._idents = itertools.count(main_ident + 1)
        self.alive: dict[int, tuple[Handle, bool]] = {}  # with whether it is a daemon
        self._queued: deque[tuple[Callable[[], object], Handle, bool, Context]] = deque()
        self._blocked: dict[int, asyncio.Future[bool]] = {}  # waits without a timeout
        self._ending = False
        self._grants = 0

    @property
    def suspends(self) -> bool:
        """True if a wait of the current stack must let others run."""
        return self.now != self.main or bool(self.alive)

    # ---- For `threading` ----

    def get_ident(self) -> int:
        """Returns the identifier of the current thread. Replaces `_thread.get_ident`."""
        return self.now

    def start(
        self,
        function: Callable[[], object],
        *,
        handle: Handle | None = None,
        daemon: bool = True,
    ) -> Handle:
        """Starts a thread. Replaces `_thread.start_joinable_thread`."""
        self._ownership.check("a thread")
        if self._ending:
            raise SystemExit
        started = Handle() if handle is None else handle
        started.ident = next(self._idents)
        started._threads = self
        self._queued.append((function, started, daemon, copy_context()))
        self._start_queued()
        return started

    def _start_queued(self) -> None:
        while self._queued and len(self.alive) < MAX_THREADS:
            function, handle, daemon, context = self._queued.popleft()
            self.alive[handle.ident] = (handle, daemon)
            self._loop.call_soon(self._run, function, handle, context=context)

    def start_new(
        self,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Any = MappingProxyType({}),
        /,
    ) -> int:
        """Starts a thread that has no handle. Replaces `_thread.start_new_thread`."""
        return self.start(lambda: function(*args, **kwargs)).ident

    def _run(self, function: Callable[[], object], handle: Handle) -> None:
        ident = self.now = handle.ident
        try:
            if not self._ending:
                function()
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError):
            pass  # the thread's end, or that of the cell
        finally:
            self.now = self.main
            self.alive.pop(ident, None)
            handle._set_done()
            self._start_queued()
            self._set_idle(True)  # the cell's own stack is suspended

    # ---- Waiting ----

    def suspend(self, awaitable: Awaitable[Any]) -> Any:
        """Suspends the current stack until the awaitable is done, and returns its value."""
        ident = self.now
        try:
            self.check()
        except BaseException:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise
        try:
            return self._run_sync(awaitable)
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self.now = ident

    def is_end(self, error: BaseException | None) -> bool:
        """Returns whether an exception only ends a thread, so that there is nothing to report."""
        ended = self._ending and isinstance(error, SystemExit)
        return ended or (self._interrupts.stop is not None and isinstance(error, KeyboardInterrupt))

    def check(self) -> None:
        """Raises if the cell is being stopped, or has ended, and the current thread is not the main one."""
        if self.now == self.main:
            return
        if self._ending:
            raise SystemExit  # which `threading` ignores
        self._interrupts.raise_stop()

    def sleep(self, seconds: float) -> None:
        """Sleeps while other threads run."""
        self.suspend(asyncio.sleep(seconds))

    def wait(self, waiting: Any, timeout: float) -> bool:
        """Waits in a queue for one's turn, and returns False if the time was over first. A negative timeout is none.

        Raises:
            RuntimeError: Every thread waits, so none would ever have its turn.
        """
        self._ownership.check("a lock")
        if self._ending and self.now != self.main:
            # Its cleanup needs no locks any more, but a loop around a wait must end.
            self._grants += 1
            if self._grants > GRANTS_AT_END:
                raise SystemExit
            return True
        future: asyncio.Future[bool] = self._loop.create_future()
        waiting.append(future)
        ident = self.now
        if timeout >= 0:
            timer = self._loop.call_later(timeout, _give_up, future)
        else:
            self._blocked[ident] = future
            timer = None
        watch = self._watch(future) if ident == self.main and timer is None else None
        try:
            return bool(self.suspend(future))
        except BaseException:
            future.cancel()
            raise
        finally:
            for handle in (timer, watch):
                if handle is not None:
                    handle[0].cancel() if isinstance(handle, list) else handle.cancel()
            self._blocked.pop(ident, None)

    def _watch(self, future: asyncio.Future[bool]) -> list[Any]:
        """Looks for a deadlock from time to time. Returns a list with the timer."""

        def look() -> None:
            if future.done():
                return
            if self._stuck():
                future.set_exception(RuntimeError(self._deadlock()))
            else:
                timer[0] = self._loop.call_later(DEADLOCK_SECONDS, look)

        timer: list[Any] = [self._loop.call_later(DEADLOCK_SECONDS, look)]
        return timer

    def _stuck(self) -> bool:
        """Returns whether every thread waits without a timeout, and nothing else of the cell is left to run."""
        if any(not settles(task) for task in all_tasks()):
            return False
        return self._all_blocked()

    def _deadlock(self) -> str:
        count = len(self.alive)
        who = f"the cell and its {count} thread(s) wait" if count else "the cell waits"
        return (
            f"deadlock: {who} for a lock, an event or a queue, and nothing is left that could release "
            f"it. {_USE_BATCHED}"
        )

    # ---- The end of a cell ----

    def finish(self) -> None:
        """Waits for the threads that are no daemons, as Python does before it exits. Skips those that wait for ever."""
        while not self._all_blocked():
            handle = next((handle for handle, daemon in self.alive.values() if not daemon), None)
            if handle is None:
                return
            try:
                handle.join()
            except RuntimeError:
                if not self._all_blocked():
                    raise

    def _all_blocked(self) -> bool:
        """Returns whether every thread besides the main one waits without a timeout."""
        blocked = self._blocked
        return all(ident in blocked and not blocked[ident].done() for ident in self.alive)

    def end(self) -> int:
        """Ends the threads that are left. Returns how many of them had work to do."""
        working = len(self.alive) - len(self._blocked.keys() & self.alive.keys())
        self._ending = True
        self._grants = 0
        self._queued.clear()
        self._run_sync(self._unwind())
        return working

    async def _unwind(self) -> None:
        """Cancels what the threads wait for, until all have ended. One that waits for something else is left."""
        for task in all_tasks():
            if settles(task) and task is not asyncio.current_task():
                task.cancel()
        for _ in range(UNWIND_TURNS):
            if not self.alive:
                return
            await asyncio.sleep(0)

    @property
    def is_at_rest(self) -> bool:
        """True if no thread of a cell is left."""
        return (
            type(self._queued) is deque
            and not self._queued
            and not self.alive
            and type(self._blocked) is dict
            and not self._blocked
            and self._ending is False
            and type(self._grants) is int
            and type(self._idents) is itertools.count
            and self.now is self.main
        )

    def reset(self) -> None:
        """Forgets the threads of earlier cells. Whatever a cell has put in the place of a collection is not called."""
        self._queued = deque()
        self._blocked = {}
        self.alive.clear()
        self._ending = False
        self._grants = 0
        self.now = self.main
        if type(self._idents) is not itertools.count:
            self._idents = itertools.count(self.main + 1)


def _give_up(future: asyncio.Future[bool]) -> None:
    resolve(future, False)


THREAD_CODES.add(GreenThreads._run.__code__)
