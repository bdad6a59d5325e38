"""Host functions that cells can call: binds, runs and times them.

A call that the cell waits for runs in the cell's thread, which is fastest. Others run in separate threads, a
bounded number at a time. Every call runs in the context of the code that runs the cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple

from sandbox_runtime.audit import Thinned
from sandbox_runtime.buffers import nbytes
from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.guest.values.zones import ZONE_CALL
from sandbox_runtime.host_costs import BYTES_PER_CALL, BYTES_PER_PART, MAX_LOST_THREADS
from sandbox_runtime.host_time import HostTime, counted, uncounted
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.messages import Answer, ToolDeclaration
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.texts.calls import TEXT_CALL, TextCalls
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.threads import DaemonPool, call_after
from sandbox_runtime.tools.answers import Outcome, answer, answer_batch, raised, returned
from sandbox_runtime.tools.call_scope import Call, calling_line, current_call
from sandbox_runtime.tools.coroutines import Coroutines, Running
from sandbox_runtime.tools.declarations import (
    PlainSignature,
    declarations,
    function_of,
    signature_of,
)
from sandbox_runtime.tools.exits import as_error
from sandbox_runtime.values import encoder as values
from sandbox_runtime.zones import serve_zone

Work = Callable[[Running | None], Any]

# To ask `inspect` takes longer than to encode most results.
_NOT_AWAITABLE = frozenset({str, int, float, bool, bytes, list, dict, tuple, type(None)})


class Detached(NamedTuple):
    """The calls that an interrupt or the end of a cell has ended."""

    calls: Collection[Future[Any]]
    coroutines: Collection[Future[Any]]
    texts: Collection[Deadline]


class HostTools:
    """The tools of one session. `serve` runs in the cell's thread, other methods in any."""

    def __init__(self, limits: Limits) -> None:
        """Starts without tools. `limits` bound the concurrent calls and the seconds of one."""
        self._limits = limits
        self._border = values.ValueCodec()
        self.refusals = Thinned()
        """The rate-limited audit events of this session."""
        self._coroutines = Coroutines()
        self._workers = DaemonPool(limits.concurrent_calls, "host-tool", max_lost=MAX_LOST_THREADS)
        self._texts = TextCalls(limits)
        self._host_time = HostTime(limits.host_seconds)
        self._own: Mapping[str, HostTool] = {TEXT_CALL: self._texts, ZONE_CALL: serve_zone}
        self._registered: dict[str, HostTool] = {}
        self._tools: dict[str, HostTool] = {}
        self._signatures: dict[str, inspect.Signature | None] = {}
        self._plain_signatures: dict[str, PlainSignature] = {}
        self._changed = threading.Condition()  # guards everything below
        self._cell = Call()
        self._accepted = self._cell  # that of the last call
        self._open: dict[Future[Any], int] = {}
        self._open_bytes = 0

    def replace(
        self,
        tools: Mapping[str, HostTool],
        border: values.ValueCodec,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Replaces the tools.

        Args:
            tools: Functions and coroutine functions by name.
            border: The codec for arguments and results.
            loop: The event loop for coroutines. None: a loop of our own, in a thread started on demand.
        """
        self._border = border
        self._coroutines.loop = loop
        self._registered = dict(tools)
        self._tools = {name: function_of(tool) for name, tool in tools.items()}
        self._signatures = {name: signature_of(tool) for name, tool in tools.items()}
        self._plain_signatures = {
            name: PlainSignature.of(one) for name, one in self._signatures.items()
        }

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The caller's event loop, on which coroutines run; None for one of our own."""
        return self._coroutines.loop

    @property
    def tools(self) -> Mapping[str, HostTool]:
        """The registered tools by name."""
        return self._registered

    def is_busy(self) -> bool:
        """True while a started call has no answer yet."""
        return bool(self._open)

    def wait_for_room(self, seconds: float) -> bool:
        """True if another call may be accepted: queued and running calls take memory."""
        most = self._limits.call_memory_bytes
        if self._open_bytes <= most:
            return True
        with self._changed:
            return self._changed.wait_for(lambda: self._open_bytes <= most, seconds)

    def declarations(self) -> list[ToolDeclaration]:
        """Returns the declarations that are sent to the sandbox."""
        return declarations(self._registered, self._signatures)

    def counting(self) -> contextlib.AbstractContextManager[object]:
        """Counts what a new cell takes of the host's processor time, in the thread that runs it and serves its calls."""
        self._host_time = HostTime(self._limits.host_seconds)
        return self._host_time.counting()

    # ---- A call ----

    def serve(self, call: ToolCall, reply: Callable[[Answer], None]) -> Answer | None:
        """Runs a call. The cell sees its exceptions.

        Returns:
            The answer; None if it comes later, through `reply`.
        """
        line = calling_line.set(call.line)
        host_time = self._host_time
        try:
            host_time.check()
            if call.tool == TEXT_CALL and call.mode != "wait":
                raise LookupError("texts answer one call at a time")
            if call.mode == "batch":
                return self._serve_batch(call)
            if call.mode == "aio":
                # Arguments wait in encoded form: decoded, they may be many times as large.
                parts = call.arguments
                size = BYTES_PER_CALL + BYTES_PER_PART * len(parts) + sum(map(nbytes, parts))
                work = _checked(host_time, lambda running: self._work(call)(running))
                future = self._start(call.tool, work, size)
                future.add_done_callback(lambda done: self._reply(reply, call, done, host_time))
                return None
            work = self._work(call)
            if self._limits.call_seconds is None:
                own = Call(self._part_of(), blocks=True)
                own.check()  # this sandbox may be one of a call whose cell has ended
                with own.current():
                    return returned(self._border, call, work(None))
            return answer(self._border, call, _outcome(self._start(call.tool, work, blocks=True)))
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the cell sees it
            return raised(call, error)
        finally:
            calling_line.reset(line)

    def _reply(
        self,
        reply: Callable[[Answer], None],
        call: ToolCall,
        done: Future[Any],
        host_time: HostTime,
    ) -> None:
        with host_time.counting():
            reply(answer(self._border, call, _outcome(done)))

    def read_again(self, call: ToolCall) -> Answer | None:
        """Answers a call that reads a text, for a replayed cell; None for other calls."""
        return self.serve(call, lambda _: None) if call.tool == TEXT_CALL else None

    def accept(self) -> None:
        """Notes that a call has arrived: the next `serve` belongs to what runs now, and not to what a `detach` begins."""
        self._accepted = self._cell

    def detach(self) -> Detached:
        """Ends the calls so far, because the cell has ended or was interrupted; `abandon` does what takes time for it."""
        with self._changed:
            self._cell.end()
            self._cell = Call()
            calls = list(self._open)
            self._open.clear()
            self._open_bytes = 0
            self._changed.notify_all()
        return Detached(calls, self._coroutines.awaited, self._texts.running)

    def abandon(self, detached: Detached) -> None:
        """Abandons these calls. None of them that is queued starts."""
        for deadline in detached.texts:
            deadline.cancel()
        for coroutine in detached.coroutines:
            coroutine.cancel()
        self._workers.give_up(detached.calls, InterruptedError("the call was abandoned"))

    def give_up(self) -> None:
        """Abandons every call."""
        self.abandon(self.detach())
        self.accept()

    def close(self) -> None:
        """Abandons running calls. Never waits for a tool."""
        self.give_up()
        self._workers.close(cancel_queued=True)
        self._texts.close()
        self._coroutines.close()

    def _work(self, call: ToolCall) -> Work:
        """Returns the call as a function. Raises if it does not fit a tool."""
        return self._bind(call.tool, *_arguments(call, self._decode(call)))

    def _decode(self, call: ToolCall) -> Any:
        try:
            most = self._limits.value_memory_bytes
            return self._border.decode_call(call.inline, call.attachments, most)
        except ValueCrossingError as error:
            self.refusals.record("value.refused", where=call.tool, reason=str(error))
            raise

    def _bind(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Work:
        tool = self._own.get(name) or self._tools.get(name)
        if tool is None:
            self.refusals.record("tool.refused", tool=name, reason="it is not registered")
            raise LookupError(f"there is no tool {name[:100]!r} for this cell")
        signature = self._signatures.get(name)
        if signature is not None and not self._plain_signatures[name].fits(args, kwargs):
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                self.refusals.record("tool.refused", tool=name, reason=str(error))
                raise TypeError(f"{name}{signature}: {error}") from None
        work = self._call_of(name, tool, args, kwargs)
        return _clocked(counted if name in self._own else uncounted, work)

    def _call_of(
        self, name: str, tool: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Work:
        """Returns a call with bound arguments. It never raises what would end the host."""

        def work(running: Running | None) -> Any:
            try:
                result = tool(*args, **kwargs)
            except BaseException as raised:
                error = as_error(name, raised)
                if error is raised:
                    raise
            else:
                if type(result) not in _NOT_AWAITABLE and inspect.isawaitable(result):
                    return self._coroutines.wait(name, result, running)
                return result
            raise error

        return work

    def _serve_batch(self, call: ToolCall) -> Answer:
        """Runs many calls and answers with the outcome of each, in order."""
        items = self._decode(call)
        if not isinstance(items, list):
            raise TypeError(f"{call.tool}.batched() was called without arguments to read")
        for item in items:  # all before the first runs
            self._bind(call.tool, *_arguments(call, item))
        outcomes: list[Outcome] = [(False, InterruptedError("the call was abandoned"))] * len(items)
        if self._limits.call_seconds is None:
            self._share(call.tool, items, outcomes)
        else:
            self._start_each(call.tool, items, outcomes)
        return answer_batch(self._border, call, outcomes)

    def _share(self, name: str, items: list[Any], outcomes: list[Outcome]) -> None:
        """Runs the calls of a batch in a few threads, each of which takes the next item when it is done.

        A thread starts another before its first item, so that a batch of short calls is over before many have started: to hand
        each item to a thread would take longer than such a call.
        """
        tool: Any = self._tools.get(name)
        batch, host_time = Call(self._part_of()), self._host_time
        numbers, lock = itertools.count(), threading.Lock()
        started: list[Future[Any]] = []
        over, left = threading.Event(), len(items)

        def run(at: int) -> Outcome:
            try:
                host_time.check()
                with Call(batch).current():
                    return True, self._call_of(name, tool, *items[at])(Running())
            except (Exception, CancelledError) as error:  # noqa: BLE001 - a tool may raise anything
                return False, error

        def start() -> None:
            future = self._start(name, work)
            started.append(future)
            future.add_done_callback(lambda _: over.set() if batch.over else None)

        def work(_: Running | None) -> None:
            # Once for all of them: reading a clock takes as long as a tenth of a short call.
            with uncounted():
                take_items()

        def take_items() -> None:
            nonlocal left
            is_first = True
            while not batch.over:
                with lock:
                    at = next(numbers)
                if at >= len(items):
                    return
                if is_first and at + 1 < len(items) and len(started) < most:
                    with contextlib.suppress(RuntimeError):  # too many threads are lost
                        start()
                is_first = False
                outcomes[at] = contextvars.copy_context().run(run, at)
                with lock:
                    left -= 1
                if left == 0:
                    over.set()

        most = self._limits.concurrent_calls
        if items:
            start()
            over.wait()
        batch.end()
        for future in started:  # those that have found no thread
            future.cancel()

    def _start_each(self, name: str, items: list[Any], outcomes: list[Outcome]) -> None:
        """Runs each call of a batch in a thread of its own, which can be abandoned when its time is over.

        Only a few items wait for a thread at a time, so an item costs no more than the slot of its outcome.
        """
        tool: Any = self._tools.get(name)
        batch = Call(self._part_of())
        most = 2 * self._limits.concurrent_calls
        places = threading.Semaphore(most)

        def end(at: int, future: Future[Any]) -> None:
            outcomes[at] = _outcome(future)
            places.release()

        for at, item in enumerate(items):
            places.acquire()
            if batch.over:
                places.release()
                break
            call = self._call_of(name, tool, *item)
            work = _checked(self._host_time, _clocked(uncounted, call))
            self._start(name, work).add_done_callback(functools.partial(end, at))
        for _ in range(most):
            places.acquire()

    # ---- Threads ----

    def _part_of(self) -> Call:
        """The parent of the running cell's calls."""
        outer = current_call()
        return self._accepted if outer is None else _Both(self._accepted, outer)

    def _start(self, name: str, work: Work, size: int = 0, *, blocks: bool = False) -> Future[Any]:
        """Runs a call in a thread, in a copy of this context. `size` is the memory of its arguments."""
        running, own = Running(), Call(self._part_of(), blocks=blocks)
        future: Future[Any] = Future()
        host_time = self._host_time

        def job() -> Any:
            own.check()
            with host_time.counting(), self._timed(name, future, running, own), own.current():
                return work(running)

        self._workers.submit(job, future)
        with self._changed:
            self._open[future] = size
            self._open_bytes += size
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._changed:
            self._open_bytes -= self._open.pop(future, 0)
            self._changed.notify_all()

    @contextlib.contextmanager
    def _timed(
        self, name: str, future: Future[Any], running: Running, call: Call
    ) -> Iterator[None]:
        """Abandons the call after its time limit; its result is then discarded."""
        seconds = self._limits.call_seconds
        if seconds is None:
            yield
            return

        def expire() -> None:
            error = TimeoutError(
                f"{name}() gave no answer within {seconds:g} s (Limits.call_seconds)"
            )
            call.end()
            self._workers.give_up([future], error)
            if running.coroutine is not None:
                running.coroutine.cancel()

        end = time.monotonic() + seconds
        with call_after(lambda: end - time.monotonic(), expire, "host-tool-limit"):
            yield


class _Both(Call):
    """A call that is over when either of two calls is over."""

    def __init__(self, one: Call, other: Call) -> None:
        super().__init__(one)
        self._other = other

    @property
    def over(self) -> bool:
        """See `Call`."""
        return super().over or self._other.over


def _arguments(call: ToolCall, arguments: Any) -> tuple[list[Any], dict[str, Any]]:
    if type(arguments) is list and len(arguments) == 2:
        args, kwargs = arguments
        if type(args) is list and type(kwargs) is dict:
            return args, kwargs
    raise TypeError(f"{call.tool}() was called without arguments to read")


def _clocked(clock: Callable[[], contextlib.AbstractContextManager[object]], work: Work) -> Work:
    """Returns the work as one that runs within a clock of the host's time."""

    def run(running: Running | None) -> Any:
        with clock():
            return work(running)

    return run


def _checked(host_time: HostTime, work: Work) -> Work:
    """Returns the work as one that is refused once its cell has taken all of the host's time."""

    def run(running: Running | None) -> Any:
        host_time.check()
        return work(running)

    return run


def _outcome(future: Future[Any]) -> Outcome:
    """Waits for a call and returns its outcome."""
    try:
        return True, future.result()
    except (Exception, CancelledError) as error:  # noqa: BLE001 - a tool may raise anything
        return False, error
