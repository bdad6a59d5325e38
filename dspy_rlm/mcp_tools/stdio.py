"""A server as a child process: messages on its stdin and stdout, one JSON object a line.

Unlike the transport of the `mcp` package it bounds what a server may send, keeps stderr away from the terminal, and
leaves no process behind, however this one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from dspy_rlm.errors import ToolServerError
from dspy_rlm.mcp_tools.bounds import MAX_MESSAGE_BYTES

# Lines on stdout that are no messages, such as a banner; more of them are no accident.
MAX_STRAY_LINES = 1_000

# Requests of the server to the client in so many seconds. Each is answered, and the answers of a flood would wait in memory.
MAX_REQUESTS, REQUESTS_SECONDS = 1_000, 10.0

# The end of stderr that is kept for error messages.
STDERR_BYTES = 8 * 1024

# The time that a server has to end once its stdin is closed, before it is killed; and to be gone after that.
GRACE_SECONDS, KILL_SECONDS = 2.0, 5.0

# The notifications that the client acts on. A server may send any number of others; they are dropped unread.
_READ_NOTIFICATIONS = frozenset({"notifications/cancelled", "notifications/progress"})

_GUARDIAN = Path(__file__).with_name("guardian.py")
_IS_POSIX = os.name == "posix"


class StdioServer:
    """The process of a server, as a transport of `mcp.Client`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: str | None, name: str
    ) -> None:
        """Starts nothing yet.

        Args:
            command: The program and its arguments.
            env: Variables of its environment, beside the harmless ones of this process such as PATH and HOME.
            cwd: Its working directory; None for that of this process.
            name: The server's name, for error messages.
        """
        self._command = list(command)
        self._env = {**get_default_environment(), **env}
        self._cwd = cwd
        self._name = name
        self._stack = contextlib.AsyncExitStack()
        self._stderr: deque[bytes] = deque()
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None
        self.problem = ""
        """The violation of the protocol that ended the connection; empty for none."""
        self.is_over = False
        """True once nothing more can come from the server."""

    async def __aenter__(self) -> Any:
        """Starts the process and returns the streams of messages."""
        return await self._stack.enter_async_context(self._streams())

    async def __aexit__(self, *error: Any) -> bool | None:
        """Ends the process."""
        return await self._stack.__aexit__(*error)

    def ending(self) -> str:
        """Returns how the process has ended, and the last lines of its stderr."""
        if self._process is None:
            return ""
        code = self._process.returncode
        how = self.problem or ("it ended" if code is None else f"it ended with exit code {code}")
        tail = b"".join(self._stderr)[-STDERR_BYTES:].decode("utf-8", "replace").strip()
        return f"{how}; its last words on stderr: {tail}" if tail else how

    @contextlib.asynccontextmanager
    async def _streams(self) -> AsyncIterator[Any]:
        async with self._started() as process:
            incoming, reader = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            writer, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read_to_end, process, incoming)
                tasks.start_soon(self._write, process, outgoing, incoming)
                tasks.start_soon(self._keep_stderr, process)
                try:
                    yield reader, writer
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._end(process)
                    tasks.cancel_scope.cancel()
                    for stream in (incoming, reader, writer, outgoing):
                        stream.close()

    @contextlib.asynccontextmanager
    async def _started(self) -> AsyncIterator[asyncio.subprocess.Process]:
        program = shutil.which(self._command[0], path=self._env.get("PATH"))
        if program is None and not (Path(self._cwd or ".") / self._command[0]).is_file():
            raise ToolServerError(
                f"The MCP server {self._name!r} cannot be started: there is no program {self._command[0]!r}. Install "
                "it, or name it with its whole path.",
                server=self._name,
            )
        command: list[str] = self._command
        options: dict[str, Any] = {}
        end: int | None = None
        if _IS_POSIX and sys.executable:
            end, self._lifeline = os.pipe()
            command = [sys.executable, "-I", "-S", str(_GUARDIAN), str(end), *command]
            options = {"pass_fds": (end,), "start_new_session": True}
        try:
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=self._env,
                    cwd=self._cwd,
                    limit=MAX_MESSAGE_BYTES,
                    **options,
                )
            except (OSError, ValueError) as error:
                raise ToolServerError(
                    f"The MCP server {self._name!r} cannot be started: {error}", server=self._name
                ) from error
            finally:
                if end is not None:
                    os.close(end)
            yield process
        finally:
            self._cut()

    # ---- Streams ----

    async def _read_to_end(self, process: Any, incoming: Any) -> None:
        try:
            await self._read(process, incoming)
        finally:
            self.is_over = True

    async def _read(self, process: Any, incoming: Any) -> None:
        stray, requests = 0, _Rate()
        async with incoming:
            while True:
                try:
                    line = await process.stdout.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    return
                except asyncio.LimitOverrunError:
                    self.problem = f"it sent a message of more than {MAX_MESSAGE_BYTES:,} bytes"
                    return
                message = None
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    if line.lstrip()[:1] == b"{":
                        self.problem = "it sent a message that cannot be read"
                        return
                    stray += 1
                    if stray > MAX_STRAY_LINES:
                        self.problem = f"it wrote more than {MAX_STRAY_LINES:,} lines to stdout that are no messages"
                        return
                if message is not None and _is_request(message) and not requests.accept():
                    self.problem = (
                        f"it sent more than {MAX_REQUESTS:,} requests in {REQUESTS_SECONDS:g} s"
                    )
                    return
                if message is None or _is_noise(message):
                    await asyncio.sleep(0)  # a flood must not hold the loop
                    continue
                try:
                    await incoming.send(SessionMessage(message))
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    return

    async def _write(self, process: Any, outgoing: Any, incoming: Any) -> None:
        try:
            async with outgoing:
                async for sent in outgoing:
                    text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(f"{text}\n".encode())
                    await process.stdin.drain()
        except OSError:
            incoming.close()  # the session then sees the end of the connection

    async def _keep_stderr(self, process: Any) -> None:
        kept = 0
        while chunk := await process.stderr.read(STDERR_BYTES):
            self._stderr.append(chunk)
            kept += len(chunk)
            while kept - len(self._stderr[0]) >= STDERR_BYTES:
                kept -= len(self._stderr.popleft())

    # ---- The end ----

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Closes stdin, and kills the process if it has not ended some time after."""
        if process.stdin is not None:
            process.stdin.close()
        # None for a server that does not keep to the protocol.
        if not await _ended(process, 0 if self.problem else GRACE_SECONDS):
            with contextlib.suppress(OSError):
                process.terminate()
            self._cut()
            if not await _ended(process, KILL_SECONDS):
                with contextlib.suppress(OSError):
                    process.kill()
        # A descendant may hold the pipes open; the transport would wait for it.
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()

    def _cut(self) -> bool:
        """Closes the lifeline, which ends the process and its descendants. Returns whether there was one."""
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)
        return lifeline is not None


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    end = anyio.current_time() + seconds
    while process.returncode is None:
        if anyio.current_time() >= end:
            return False
        await asyncio.sleep(0.01)
    return True


class _Rate:
    """Counts the requests of a server within a window of time."""

    def __init__(self) -> None:
        self._since = -REQUESTS_SECONDS
        self._count = 0

    def accept(self) -> bool:
        """Counts a request. Returns False if it is one too many."""
        now = time.monotonic()
        if now - self._since > REQUESTS_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= MAX_REQUESTS


def _is_request(message: Any) -> bool:
    return hasattr(message, "method") and hasattr(message, "id")


def _is_noise(message: Any) -> bool:
    """Returns whether a message is a notification that the client does not act on."""
    method = getattr(message, "method", None)
    return method is not None and not hasattr(message, "id") and method not in _READ_NOTIFICATIONS
