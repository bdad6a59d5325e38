"""Host functions as cells call them: `f(...)`, `await f.aio(...)` and `f.batched([...])`.

Turns a call into a message, and an answer into a value. The transport is `CallHost`; the driver decides
whether a cell may call at all.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys

# By name: a cell that replaces them in their module does not replace them here.
from builtins import len, memoryview
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from json import JSONDecoder
from json import loads as from_json
from typing import Any, Protocol

from sandbox_runtime.guest.cell_notes import note
from sandbox_runtime.guest.namespace.batch_items import Rows, arguments_of
from sandbox_runtime.guest.tasks import resolve
from sandbox_runtime.guest.tracebacks import host_exception
from sandbox_runtime.guest.values.codec import Part, receive, send, send_call

# The maximum number of calls in flight; further ones wait in the sandbox.
MAX_OPEN_CALLS = 256

# The longest text of a failed call in the note about a batch.
MAX_REASON_CHARS = 300

# The first character of an answer that is a value as JSON text. Any other answer is one other character and a
# reply of the wire protocol. `sandbox.ts` writes it.
PLAIN = "="

scan = JSONDecoder().scan_once  # type: ignore[attr-defined]

_USAGE = """
Also: `await {name}.aio(...)`, so that asyncio.gather makes calls at once, and
`{name}.batched(items)`, which calls {name}(item) for all of them at once and returns the results in
order; an item that failed has its exception in place of a result. With several lists it takes one
argument from each, as map() does; keyword arguments are the same for all.{rows}"""
_ROWS = "\nAn item may also be a dict or a tuple of the arguments of one call."


class CallHost(Protocol):
    """The transport to the host."""

    def call(
        self, mode: str, tool: str, arguments: str, extras: list[Part]
    ) -> tuple[str, Sequence[Part]]:
        """Asks the host to run a tool, or a `batch` of calls; blocks. See `PLAIN` for the text."""

    def begin(self, ticket: int, tool: str, arguments: str, extras: list[Part]) -> None:
        """Asks the host to run a tool, and returns at once; `HostCalls.answered` gets the answer."""


class Stacks(Protocol):
    """The threads of a cell; see `threads/green_threads.py`."""

    @property
    def suspends(self) -> bool:
        """True if a wait of the current stack must let others run."""

    def suspend(self, awaitable: Awaitable[Any]) -> Any:
        """Suspends the current stack until the awaitable is done, and returns its value."""


class HostCalls:
    """The host calls of one session, including those in flight."""

    def __init__(
        self, host: CallHost, check: Callable[[str], None], received: Callable[[], None]
    ) -> None:
        """Starts without calls.

        Args:
            host: The transport to the host.
            check: Takes a tool's name; raises when the tool may not be called now.
            received: Called after each result has arrived.
        """
        self._host = host
        self._check = check
        self._received = received
        self._tickets = itertools.count(1)
        self._in_flight: dict[int, asyncio.Future[tuple[str, Sequence[Part]]]] = {}
        self._slots: asyncio.Semaphore | None = None
        self.stacks: Stacks | None = None
        """The threads of the cell; None where there can be none."""
        self.value_bytes = sys.maxsize
        """The largest value that may leave the sandbox."""

    def checked(self, sent: tuple[str, list[Part]], label: str) -> tuple[str, list[Part]]:
        """Returns an encoded value, or raises ValueError if it is too large to leave the sandbox."""
        text, extras = sent
        if not extras and len(text) <= self.value_bytes:
            return sent
        total = len(text) + sum(memoryview(part).nbytes for part in extras)
        if total > self.value_bytes:
            raise ValueError(
                f"{label} take {total:,} bytes, more than the {self.value_bytes:,} that one value may "
                "have (Limits.frame_bytes). Pass less, or in several calls."
            )
        return sent

    @property
    def in_flight(self) -> int:
        """The number of calls in flight."""
        return len(self._in_flight)

    def function(
        self,
        name: str,
        doc: str,
        rows: Rows | None = None,
        *,
        suspends: bool = True,
        describes_use: bool = True,
    ) -> Callable[..., Any]:
        """Returns the function that a cell calls under this name.

        Args:
            name: The name.
            doc: Its documentation.
            rows: The parameters that an item of a batch can hold; see `batch_items.py`.
            suspends: False if all threads of the cell wait for its call: for calls without an LM or a tool.
            describes_use: False if its documentation leaves out `aio` and `batched`.
        """

        argument_label = f"{name}() arguments"

        def tool(*args: Any, **kwargs: Any) -> Any:
            self._check(name)
            sent = self.checked(send_call(args, kwargs, argument_label), argument_label)
            if suspends and self.stacks is not None and self.stacks.suspends:
                text, parts = self.stacks.suspend(self._begin_in_slot(name, *sent))
            else:
                text, parts = self._host.call("wait", name, *sent)
            self._check(name)
            return self._result(text, parts)

        async def aio(*args: Any, **kwargs: Any) -> Any:
            async with self._slot():
                self._check(name)
                label = f"{name}.aio() arguments"
                sent = self.checked(send_call(args, kwargs, label), label)
                text, parts = await self._begin(name, *sent)
            return self._result(text, parts)

        def batched(items: Iterable[Any], *more: Iterable[Any], **kwargs: Any) -> list[Any]:
            self._check(name)
            calls = (
                [[list(args), kwargs] for args in zip(items, *more, strict=True)]
                if more or not rows
                else [arguments_of(item, rows, kwargs) for item in items]
            )
            if not calls:
                return []
            if self.stacks is not None and self.stacks.suspends:
                outcomes: list[Any] = self.stacks.suspend(self._each(name, calls))
                self._check(name)
                return _noted(name, outcomes)
            label = f"{name}.batched() arguments"
            sent = self.checked(send(calls, label), label)
            text, parts = self._host.call("batch", name, *sent)
            self._check(name)
            return _noted(
                name,
                [
                    item if succeeded else host_exception(item)
                    for succeeded, item in self._result(text, parts)
                ],
            )

        for function, shown in ((tool, name), (aio, f"{name}.aio"), (batched, f"{name}.batched")):
            function.__name__ = function.__qualname__ = shown
            usage = _USAGE.format(name=name, rows=_ROWS if rows else "")
            function.__doc__ = f"{doc}\n{usage}" if describes_use else doc
        tool.aio, tool.batched = aio, batched  # type: ignore[attr-defined]
        return tool

    def _slot(self) -> asyncio.Semaphore:
        if self._slots is None:
            self._slots = asyncio.Semaphore(MAX_OPEN_CALLS)
        return self._slots

    async def _each(self, name: str, calls: list[Any]) -> list[Any]:
        """Makes calls at once, and returns the result of each, or its exception. Other threads run meanwhile.

        The host's own batch, which is one message, blocks them.
        """
        outcomes: list[Any] = [None] * len(calls)
        waiting = iter(enumerate(calls))
        label = f"{name}.batched() arguments"

        async def work() -> None:
            for at, (args, kwargs) in waiting:
                try:
                    sent = self.checked(send_call(args, kwargs, label), label)
                    outcomes[at] = self._result(*await self._begin_in_slot(name, *sent))
                except Exception as error:  # noqa: BLE001 - it is the outcome of its item
                    outcomes[at] = error

        await asyncio.gather(*(work() for _ in range(min(len(calls), MAX_OPEN_CALLS))))
        return outcomes

    async def _begin_in_slot(
        self, name: str, arguments: str, extras: list[Part]
    ) -> tuple[str, Sequence[Part]]:
        async with self._slot():
            self._check(name)
            return await self._begin(name, arguments, extras)

    async def _begin(
        self, name: str, arguments: str, extras: list[Part]
    ) -> tuple[str, Sequence[Part]]:
        ticket = next(self._tickets)
        future: asyncio.Future[tuple[str, Sequence[Part]]]
        future = asyncio.get_running_loop().create_future()
        self._in_flight[ticket] = future
        try:
            self._host.begin(ticket, name, arguments, extras)
            return await future
        finally:
            self._in_flight.pop(ticket, None)

    def answered(self, ticket: int, text: str, parts: Sequence[Part]) -> None:
        """Delivers an answer to the code that awaits it, if any still does."""
        future = self._in_flight.get(ticket)
        if future is not None:
            resolve(future, (text, parts))

    def forget(self) -> object:
        """Forgets the calls in flight: their cell has ended. Returns what was of it."""
        ended = [*self._in_flight.items()], self._slots
        self._in_flight.clear()
        self._slots = None
        return ended

    def _result(self, text: str, parts: Sequence[Part]) -> Any:
        if text[0] == PLAIN:
            return scan(text, 1)[0]
        reply = from_json(text[1:])
        if "error" in reply:
            raise host_exception(reply["error"])
        if "interrupted" in reply:
            # Already sent, but Python would handle it slightly later.
            signal.raise_signal(signal.SIGINT)
            raise KeyboardInterrupt("the call was interrupted")
        if "abandoned" in reply:
            raise InterruptedError("the call was abandoned: the cell was interrupted")
        result = reply["result"]
        value = receive(result["kind"], parts or [result["inline"].encode()])
        self._received()
        return value


def _noted(name: str, results: list[Any]) -> list[Any]:
    """Returns the results of a batch, after noting the calls that failed: code may never look at them."""
    failed = [item for item in results if isinstance(item, Exception)]
    if failed:
        reasons = Counter(f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS] for error in failed)
        (first, count), *others = reasons.most_common()
        same = f"all with {first}" if not others and count > 1 else first
        more = f"; {len(failed) - count:,} with other errors" if others else ""
        note(f"{name}.batched: {len(failed):,} of {len(results):,} calls failed", f"{same}{more}")
    return results
