"""Host functions that cells can call: declares, binds, runs and times them.

A call that the cell waits for runs in the cell's thread, which is fastest. Others run in separate threads, a
bounded number at a time; coroutines run on the caller's event loop, or on one that this module owns. Every call
runs in the context of the code that runs the cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from sandbox_runtime.audit import Thinned
from sandbox_runtime.buffers import nbytes
from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.guest.values.zones import ZONE_CALL
from sandbox_runtime.host_costs import BYTES_PER_CALL, MAX_LOST_THREADS
from sandbox_runtime.limits import Limits
from sandbox_runtime.redaction.redact import redact_secrets, shown_signature
from sandbox_runtime.rpc.messages import Answer, ToolCall, ToolDeclaration, ToolRaised, ToolReturned
from sandbox_runtime.sandbox import HostTool, WrappedTool
from sandbox_runtime.texts.calls import TEXT_CALL, TextCalls
from sandbox_runtime.threads import DaemonPool, call_after, start_thread
from sandbox_runtime.tools.call_scope import Call, current_call
from sandbox_runtime.tools.error_texts import error_text
from sandbox_runtime.tools.exits import as_error
from sandbox_runtime.truncation import MAX_NAME_CHARS, in_one_line, plain
from sandbox_runtime.values import encoder as values
from sandbox_runtime.zones import serve_zone

# A cell sees at most this much of a tool's exception.
MAX_ERROR_CHARS = 100_000

Outcome = tuple[bool, Any]
"""True and the result of a call, or False and its exception."""


@dataclasses.dataclass
class Running:
    """A call in a thread."""

    coroutine: Future[Any] | None = None
    """The future that it waits for on the event loop."""


Work = Callable[[Running | None], Any]


class HostTools:
    """The tools of one session. `serve` runs in the cell's thread, other methods in any."""

    def __init__(self, limits: Limits) -> None:
        """Starts without tools. `limits` bound the concurrent calls and the seconds of one."""
        self._limits = limits
        self._border = values.ValueCodec()
        self.refusals = Thinned()
        """The rate-limited audit events of this session."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._workers = DaemonPool(limits.concurrent_calls, "host-tool", max_lost=MAX_LOST_THREADS)
        self._texts = TextCalls(limits)
        self._own: Mapping[str, HostTool] = {TEXT_CALL: self._texts, ZONE_CALL: serve_zone}
        self._given: dict[str, HostTool] = {}
        self._tools: dict[str, HostTool] = {}
        self._signatures: dict[str, inspect.Signature | None] = {}
        self._changed = threading.Condition()  # guards everything below
        self._cell = Call()
        self._open: dict[Future[Any], int] = {}
        self._open_bytes = 0
        self._awaited: set[Future[Any]] = set()

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
        self.loop = loop
        self._given = dict(tools)
        self._tools = {
            name: tool.function if isinstance(tool, WrappedTool) else tool
            for name, tool in tools.items()
        }
        self._signatures = {name: _signature(tool) for name, tool in self._tools.items()}

    @property
    def tools(self) -> Mapping[str, HostTool]:
        """The registered tools by name."""
        return self._given

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
        sent: set[str] = set()
        declared = []
        for name, tool in self._given.items():
            doc = _documentation(name, self._tools[name], self._signatures[name])
            if isinstance(tool, WrappedTool):
                modules = {n: source for n, source in tool.modules.items() if n not in sent}
                sent |= modules.keys()
                front = list(tool.modules)
                declared.append(ToolDeclaration(name, doc, front, tool.kind, modules))
            else:
                declared.append(ToolDeclaration(name, doc))
        return declared

    # ---- A call ----

    def serve(self, call: ToolCall, reply: Callable[[Answer], None]) -> Answer | None:
        """Runs a call. The cell sees its exceptions.

        Returns:
            The answer; None if it comes later, through `reply`.
        """
        try:
            if call.tool == TEXT_CALL and call.mode != "wait":
                raise LookupError("texts answer one call at a time")
            if call.mode == "batch":
                return self._serve_batch(call)
            if call.mode == "aio":
                # Arguments wait in encoded form: decoded, they may be many times as large.
                size = BYTES_PER_CALL + sum(map(nbytes, call.arguments))
                future = self._start(call.tool, lambda of: self._work(call)(of), size)
                future.add_done_callback(lambda done: reply(self._answer(call, _outcome(done))))
                return None
            work = self._work(call)
            if self._limits.call_seconds is None:
                with Call(self._part_of()).current():
                    return self._returned(call, work(None))
            return self._answer(call, _outcome(self._start(call.tool, work)))
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the cell sees it
            return _raised(call, error)

    def read_again(self, call: ToolCall) -> Answer | None:
        """Answers a call that reads a text, for a replayed cell; None for other calls."""
        return self.serve(call, lambda _: None) if call.tool == TEXT_CALL else None

    def give_up(self) -> None:
        """Abandons every call, because the cell has ended or was interrupted. No queued call starts."""
        self._texts.cancel()
        with self._changed:
            self._cell.end()
            self._cell = Call()
            abandoned, awaited = list(self._open), list(self._awaited)
            self._open.clear()
            self._open_bytes = 0
            self._changed.notify_all()
        for coroutine in awaited:
            coroutine.cancel()
        self._workers.give_up(abandoned, InterruptedError("the call was abandoned"))

    def close(self) -> None:
        """Abandons running calls. Never waits for a tool."""
        self.give_up()
        self._workers.close(cancel_queued=True)
        self._texts.close()
        with self._changed:
            loop, self._own_loop = self._own_loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _work(self, call: ToolCall) -> Work:
        """Returns the call as a function. Raises if it does not fit a tool."""
        return self._bind(call.tool, *_arguments(call, self._decode(call)))

    def _decode(self, call: ToolCall) -> Any:
        try:
            return self._border.decode(call.arguments, self._limits.value_memory_bytes)
        except ValueCrossingError as error:
            self.refusals.record("value.refused", where=call.tool, reason=str(error))
            raise

    def _bind(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Work:
        tool = self._own.get(name) or self._tools.get(name)
        if tool is None:
            self.refusals.record("tool.refused", tool=name, reason="it is not registered")
            raise LookupError(f"there is no tool {name[:100]!r} for this cell")
        signature = self._signatures.get(name)
        if signature is not None:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                self.refusals.record("tool.refused", tool=name, reason=str(error))
                raise TypeError(f"{name}{signature}: {error}") from None
        return self._call_of(name, tool, args, kwargs)

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
                if inspect.isawaitable(result):
                    return self._await(_contained(name, result), running)
                return result
            raise error

        return work

    def _serve_batch(self, call: ToolCall) -> Answer:
        """Runs many calls and answers with the outcome of each, in order.

        Only a few items wait for a thread at a time, so an item costs no more than the slot of its outcome.
        """
        items = self._decode(call)
        if not isinstance(items, list):
            raise TypeError(f"{call.tool}.batched() was called without arguments to read")
        for item in items:  # all before the first runs
            self._bind(call.tool, *_arguments(call, item))
        tool: Any = self._tools.get(call.tool)
        batch = Call(self._part_of())
        outcomes: list[Outcome] = [(False, InterruptedError("the call was abandoned"))] * len(items)
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
            work = self._call_of(call.tool, tool, *item)
            self._start(call.tool, work).add_done_callback(functools.partial(end, at))
        for _ in range(most):
            places.acquire()
        return self._answer_batch(call, outcomes)

    # ---- Threads and loops ----

    def _part_of(self) -> Call:
        """The parent of the running cell's calls."""
        outer = current_call()
        return self._cell if outer is None else _Both(self._cell, outer)

    def _start(self, name: str, work: Work, size: int = 0) -> Future[Any]:
        """Runs a call in a thread, in a copy of this context. `size` is the memory of its arguments."""
        running, own = Running(), Call(self._part_of())
        future: Future[Any] = Future()

        def job() -> Any:
            own.check()
            with self._timed(name, future, running, own), own.current():
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

    def _await(self, result: Awaitable[Any], running: Running | None) -> Any:
        """Waits in this thread for a coroutine on the loop."""

        async def wait() -> Any:
            return await result

        coroutine = asyncio.run_coroutine_threadsafe(wait(), self.loop or self._started_loop())
        if running is not None:
            running.coroutine = coroutine
        with self._changed:
            self._awaited.add(coroutine)
        try:
            return coroutine.result()
        except CancelledError:
            raise InterruptedError("the call was abandoned") from None
        except BaseException:
            coroutine.cancel()
            raise
        finally:
            with self._changed:
                self._awaited.discard(coroutine)

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._changed:
            if self._own_loop is None:
                self._own_loop = asyncio.new_event_loop()
                start_thread(functools.partial(_run_loop, self._own_loop), "host-tool-loop")
            return self._own_loop

    # ---- Answers ----

    def _answer(self, call: ToolCall, outcome: Outcome) -> Answer:
        worked, result = outcome
        if not worked:
            return _raised(call, result)
        try:
            return self._returned(call, result)
        except ValueCrossingError as error:
            return _raised(call, error)

    def _returned(self, call: ToolCall, result: object) -> ToolReturned:
        inline = values.encode_inline(result)
        if inline is not None:
            return ToolReturned(call.id, "json", inline)
        kind, parts = self._border.encode(result, f"The result of {call.tool}()", plainly=True)
        return ToolReturned(call.id, kind, attachments=parts)

    def _answer_batch(self, call: ToolCall, outcomes: list[Outcome]) -> Answer:
        """Encodes all outcomes as one value. A result that cannot cross fails only its own item."""
        label = f"The results of {call.tool}.batched()"
        items = [(True, item) if worked else (False, _error(item)) for worked, item in outcomes]
        try:
            kind, parts = self._border.encode(items, label, plainly=True)
        except ValueCrossingError:
            kind, parts = self._border.encode(
                [self._crossing(label, at, *item) for at, item in enumerate(items)],
                label,
                plainly=True,
            )
        return ToolReturned(call.id, kind, attachments=parts)

    def _crossing(self, label: str, at: int, worked: bool, item: object) -> Outcome:
        try:
            self._border.encode(item, f"{label}[{at}]", plainly=True)
        except ValueCrossingError as error:
            return False, _error(error)
        return worked, item


class _Both(Call):
    """A call that is over when either of two calls is over."""

    def __init__(self, one: Call, other: Call) -> None:
        super().__init__(one)
        self._other = other

    @property
    def over(self) -> bool:
        """See `Call`."""
        return super().over or self._other.over


async def _contained(name: str, result: Awaitable[Any]) -> Any:
    """Awaits a result. What would end the event loop's thread is raised as an error instead."""
    try:
        return await result
    except BaseException as raised:
        error = as_error(name, raised)
        if error is raised:
            raise
    raise error


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _arguments(call: ToolCall, arguments: Any) -> tuple[list[Any], dict[str, Any]]:
    kinds = [type(part) for part in arguments] if isinstance(arguments, list) else []
    if kinds != [list, dict]:
        raise TypeError(f"{call.tool}() was called without arguments to read")
    args, kwargs = arguments
    return args, kwargs


def _outcome(future: Future[Any]) -> Outcome:
    """Waits for a call and returns its outcome."""
    try:
        return True, future.result()
    except (Exception, CancelledError) as error:  # noqa: BLE001 - a tool may raise anything
        return False, error


def _raised(call: ToolCall, error: BaseException) -> ToolRaised:
    description = _error(error)
    return ToolRaised(
        call.id, description["data"]["type"], description["data"]["base"], description["message"]
    )


def _error(error: BaseException) -> dict[str, Any]:
    """Describes an exception for the cell: its text, its name, its nearest builtin base."""
    bases = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    text = error_text(error)
    name = in_one_line(redact_secrets(type(error).__name__), MAX_NAME_CHARS)
    data = {"type": name, "base": next(bases, "Exception")}
    return {"message": plain(redact_secrets(text), MAX_ERROR_CHARS), "data": data}


def _signature(tool: HostTool) -> inspect.Signature | None:
    try:
        return shown_signature(inspect.signature(tool))
    except (TypeError, ValueError):
        return None


def _documentation(name: str, tool: HostTool, signature: inspect.Signature | None) -> str:
    """Returns the text that `help(tool)` shows in the sandbox."""
    head = f"{name}{signature if signature is not None else '(...)'}"
    return f"{head}\n\n{inspect.getdoc(tool) or ''}".strip()
