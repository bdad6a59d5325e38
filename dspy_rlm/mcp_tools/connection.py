"""One connection to a server, on an event loop in a thread of its own: opened, used from any thread, closed.

A server that floods or hangs keeps its own loop busy, and no other's. Knows nothing of tools in the REPL.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

import mcp_types as types
from mcp import Client, MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, REQUEST_TIMEOUT

from dspy_rlm.errors import ToolServerError
from dspy_rlm.mcp_tools.bounds import MAX_ERROR_CHARS, MAX_PAGES, MAX_TOOLS
from sandbox_runtime.helpers import in_one_line, start_thread

T = TypeVar("T")

# The connections of this process, which are closed before it ends.
_all: weakref.WeakSet[Connection] = weakref.WeakSet()

# The time that closing may take beyond the transport's own limits; then the thread is left to itself.
CLOSE_SECONDS = 10.0

# The text by which the `mcp` package reports a session that the server does not know any more, with this code.
_TERMINATED = "Session terminated"


class Connection:
    """A connection that is open until `close`, or until the server ends it. Thread-safe."""

    def __init__(self, name: str, transport: Callable[[], Any], start_seconds: float) -> None:
        """Opens the connection.

        Args:
            name: The server's name, for error messages.
            transport: Returns a transport of `mcp.Client`.
            start_seconds: The longest that starting the server and the handshake may take.

        Raises:
            ToolServerError: The server cannot be started or reached.
        """
        self._name = name
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._transport = transport()
        self._client: Client | None = None
        self._is_over = False
        self._opened: Future[None] = Future()
        self._stop = asyncio.Event()
        _all.add(self)
        self._thread = start_thread(self._run, f"rlm-mcp-{name}"[:32])
        try:
            self._opened.result(start_seconds)
        except FutureTimeoutError:
            self.close(wait=False)
            raise self._error(f"did not answer within {start_seconds:g} s") from None
        except BaseException:
            self.close(wait=False)
            raise

    @property
    def is_open(self) -> bool:
        """False once the connection has ended, and in a process that was forked."""
        ended = self._is_over or getattr(self._transport, "is_over", False)
        return not ended and self._thread.is_alive() and os.getpid() == self._pid

    @property
    def instructions(self) -> str:
        """The server's own text on its use; empty for none. Untrusted."""
        return str((self._client and self._client.instructions) or "")

    @property
    def title(self) -> str:
        """The server's own name; empty for none. Untrusted."""
        info = self._client and self._client.server_info
        return info.name if info else ""

    def close(self, *, wait: bool = True) -> None:
        """Ends the connection, and with it the server's process. Closing twice is fine."""
        if os.getpid() != self._pid:
            return
        self._is_over = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stop.set)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    # ---- Requests ----

    def tools(self, seconds: float) -> list[types.Tool]:
        """Returns the server's tools. Raises `ToolServerError` if it does not answer."""
        future = self._submit(self._list_tools)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            future.cancel()
            raise self._error(f"did not list its tools within {seconds:g} s") from None
        except CancelledError:
            raise self._ended() from None
        except MCPError as error:
            raise self._failure(error) from None
        except Exception as error:
            raise self._error(f"cannot list its tools: {_text(error)}") from error

    async def call(self, tool: str, arguments: dict[str, Any], seconds: float | None) -> Any:
        """Returns the result of a call of a tool, from any event loop. Cancelling it cancels the call.

        Raises:
            TimeoutError: There was no result in time.
            ToolServerError: The connection has ended.
            MCPError: The server refused the request.
        """

        async def request() -> types.CallToolResult:
            # Not `Client.call_tool`: it checks the result against the server's own schema, whose patterns may
            # take any time.
            client = self._connected()
            sent = types.CallToolRequest(
                params=types.CallToolRequestParams(name=tool, arguments=arguments)
            )
            async with asyncio.timeout(seconds):
                return await client.session.send_request(sent, types.CallToolResult)

        future = self._submit(request)
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError(_text(error)) from None
            raise self._failure(error) from None
        except asyncio.CancelledError:
            if future.cancelled() and not _is_cancelled():
                raise self._ended() from None
            raise

    def _submit(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        """Runs a coroutine on the loop."""
        if not self.is_open:
            raise self._ended()

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    async def _list_tools(self) -> list[types.Tool]:
        client = self._connected()
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return found
            if len(found) > MAX_TOOLS:
                break
        raise self._error(f"has more than {MAX_TOOLS:,} tools, or {MAX_PAGES} pages of them")

    # ---- The loop's thread ----

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._stay_open())
            except BaseException as error:  # noqa: BLE001 - the future carries it to the waiting thread
                _fail(self._opened, self._startup_error(error))
        self._is_over = True

    async def _stay_open(self) -> None:
        # Closing may come before the server has answered at all.
        serving = asyncio.ensure_future(self._serve())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and self._client is None:
            serving.cancel()
        try:
            await serving
        finally:
            stopping.cancel()

    async def _serve(self) -> None:
        async with Client(self._transport, cache=None) as client:
            self._client = client
            self._opened.set_result(None)
            await self._stop.wait()

    def _connected(self) -> Client:
        if self._client is None:
            raise self._ended()
        return self._client

    # ---- Errors ----

    def _failure(self, error: MCPError) -> Exception:
        """Returns the error for the caller, after closing a connection that cannot be used any more."""
        if error.code not in (CONNECTION_CLOSED, INVALID_REQUEST):
            return error
        if error.code == INVALID_REQUEST and str(error) != _TERMINATED:
            return error
        ended = self._ended()
        self.close(wait=False)
        ended.was_sent = error.code == CONNECTION_CLOSED
        return ended

    def _ended(self) -> ToolServerError:
        return self._error(f"is not connected: {self._transport.ending() or 'it ended'}")

    def _startup_error(self, error: BaseException) -> Exception:
        error = _innermost(error)
        if isinstance(error, ToolServerError):
            return error
        if ending := self._transport.ending():
            return self._error(f"cannot be used: {ending} ({_text(error)})")
        return self._error(f"cannot be reached: {_text(error)}")

    def _error(self, problem: str) -> ToolServerError:
        text = f"The MCP server {in_one_line(self._name, 100)!r} {problem}."
        return ToolServerError(text, server=self._name)


@atexit.register
def _close_all() -> None:
    """Ends the servers while there are threads that can do it. What is left when the process ends, is killed then."""
    for connection in list(_all):
        connection.close(wait=False)
    for connection in list(_all):
        connection.close()


def _innermost(error: BaseException) -> BaseException:
    """Returns the first error in groups of them: a task group wraps what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text[:MAX_ERROR_CHARS]} ..." if len(text) > MAX_ERROR_CHARS else text.rstrip(".")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(future: Future[None], error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):  # it was opened, and has ended since
        future.set_exception(error)
