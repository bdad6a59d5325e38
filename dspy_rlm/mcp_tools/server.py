"""`MCP`: a server of tools for the code of an RLM, as a command or as an address."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import dspy

from dspy_rlm.errors import SignatureError, ToolServerError
from dspy_rlm.mcp_tools.arguments import (
    checked_command,
    checked_headers,
    checked_names,
    checked_seconds,
    checked_texts,
    checked_url,
    name_of,
)
from dspy_rlm.mcp_tools.bounds import MAX_RESTARTS, RESTART_SECONDS
from dspy_rlm.mcp_tools.secrets import read_again, secrets_in, without_secrets
from sandbox_runtime.helpers import redact_secrets, run_in_thread, url_without_secrets

# An address that ends so is one of the older transport, by server-sent events.
_SSE_END = "/sse"

# The transport's own default for the silence of a stream.
_LEAST_READ_SECONDS = 300.0


class MCP:
    """An MCP server whose tools are functions in the REPL.

        files = dspy_rlm.MCP(["npx", "-y", "@modelcontextprotocol/server-filesystem", "data"])
        rlm = dspy_rlm.RLM("question -> answer", tools=[files, dspy_rlm.MCP(url="https://example.com/mcp")])

    It is started, or connected, by the first run that needs it, or by `start`, and stays open for later runs until it is
    closed: by `close`, at the end of a `with` block of it or of the RLM, or with this process. Thread-safe.
    """

    def __init__(
        self,
        command: Sequence[str] | str | None = None,
        *,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        prefix: str = "",
        only: Collection[str] | None = None,
        timeout: float | None = 60,
        start_timeout: float = 60,
        transport: str | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            command: The program and its arguments, for a server that talks on stdin and stdout.
            url: The address of a server, instead of a command.
            env: Variables of the program's environment, beside PATH, HOME and a few more: it has no others.
            cwd: The program's working directory.
            headers: Headers of every request to the address, such as a key.
            name: The server's name in messages and documentation. None: taken from the command or the address.
            prefix: The beginning of the tools' names in the REPL: with "git", `log` is `git_log`.
            only: The tools to offer, by their own names. None: all.
            timeout: Seconds that a call may take. None: no limit.
            start_timeout: Seconds that starting and listing the tools may take.
            transport: "http" or "sse" for an address. None: "sse" if it ends with /sse.

        Raises:
            SignatureError: An argument is invalid; says which and why.
        """
        if (command is None) == (url is None):
            raise SignatureError(
                'MCP needs either a command, such as MCP(["npx", "-y", "a-server"]), or url="https://...".'
            )
        if url is not None and (env is not None or cwd is not None):
            raise SignatureError("MCP: env and cwd are for a command; an address has headers.")
        if command is not None and (headers is not None or transport is not None):
            raise SignatureError("MCP: headers and transport are for url; a command has env.")
        if transport not in (None, "http", "sse"):
            raise SignatureError(f'MCP: transport must be "http" or "sse", not {transport!r}.')
        self.command = None if command is None else checked_command(command)
        self.url = None if url is None else checked_url(url)
        self.env = checked_texts("env", env)
        self.headers = checked_headers(headers)
        self.cwd = None if cwd is None else os.fspath(cwd)
        self.name = name_of(name, self.command, self.url)
        self.prefix = prefix
        self.only = checked_names("only", only)
        self.timeout = checked_seconds("timeout", timeout)
        self.start_timeout = checked_seconds("start_timeout", start_timeout) or 60.0
        self.transport = transport
        # Searched for by `tools.secrets`, so that errors do not show them.
        self._secrets = {f"secret_{at}": text for at, text in enumerate(self._own_secrets())}
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()  # guards the next two
        self._connection: Any = None
        self._starts: deque[float] = deque(maxlen=MAX_RESTARTS + 1)

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str],
        *,
        only: Collection[str] | None = None,
        prefix: bool | None = None,
    ) -> list[MCP]:
        """Returns the servers of a file in the common form, `{"mcpServers": {"name": {"command": ...}}}`.

        Args:
            path: The file. `${NAME}` and `${NAME:-default}` in it are variables of the environment; nothing else is
                expanded.
            only: The servers to use, by name. None: all that are not disabled.
            prefix: True to begin the names of tools with the name of their server. None: where there are several servers.

        Raises:
            SignatureError: The file cannot be read, or says something that cannot be used.
        """
        from dspy_rlm.mcp_tools.config_file import servers_of

        entries = servers_of(path, only)
        prefixed = len(entries) > 1 if prefix is None else prefix
        return [
            cls(**settings, name=name, prefix=name if prefixed else "")
            for name, settings in entries.items()
        ]

    # ---- Open and closed ----

    def start(self) -> MCP:
        """Starts or connects the server, if it is not open. Returns this object.

        Raises:
            ToolServerError: The server cannot be started or reached, or the `mcp` package is missing.
        """
        self._open()
        return self

    def close(self) -> None:
        """Closes the connection and ends the server's process. The next run opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._starts.clear()
        if connection is not None:
            connection.close()

    def __enter__(self) -> MCP:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def tools_for(self, taken: Collection[str] = ()) -> dict[str, dspy.Tool]:
        """Returns the server's tools by their names in the REPL, as it lists them now; see `ToolServer`."""
        listed = self._listed()
        from dspy_rlm.mcp_tools.tools import Naming, tools_of

        if self.only is not None:
            offered = {one.name for one in listed}
            if missing := [name for name in self.only if name not in offered]:
                raise ToolServerError(
                    f"The MCP server {self.name!r} has no tool {missing[0]!r}, which `only` names.",
                    server=self.name,
                )
            listed = [one for one in listed if one.name in self.only]
        return tools_of(listed, Naming(self.name, self.prefix, taken), self._call)

    def _listed(self) -> list[Any]:
        """Returns the server's list of tools. A connection that turns out to have ended is opened again, once."""
        connection = self._open()
        try:
            try:
                return list(connection.tools(self.start_timeout))
            except ToolServerError:
                if connection.is_open:
                    raise
            return list(self._open().tools(self.start_timeout))
        except ToolServerError as error:
            raise self._clean(error) from None

    def prefixed(self, prefix: str) -> MCP:
        """Returns a server of the same settings whose tools' names begin with the prefix."""
        if prefix == self.prefix:
            return self
        other = MCP.__new__(MCP)
        other.__dict__.update(self.__dict__, prefix=prefix, name=prefix)
        other._reset()
        return other

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Returns the result of a tool, for a cell. A connection that has ended before is opened again."""
        try:
            try:
                return await (await self._ready()).call(tool, arguments, self.timeout)
            except ToolServerError as error:
                # A server that has forgotten the session has not seen the request.
                if error.was_sent:
                    raise
                return await (await self._ready()).call(tool, arguments, self.timeout)
        except TimeoutError as error:
            raise TimeoutError(f"The MCP server {self.name!r} gave {error}.") from None
        except ToolServerError as error:
            raise ConnectionError(str(self._clean(error))) from None

    async def _ready(self) -> Any:
        """Returns the open connection. Opening it waits in a thread: this may be the caller's own event loop."""
        connection = self._connection
        if connection is not None and connection.is_open:
            return connection
        return await asyncio.wrap_future(run_in_thread(self._open, "rlm-mcp-open"))

    def _is_open(self) -> bool:
        connection = self._connection
        return connection is not None and connection.is_open

    def _open(self) -> Any:
        with self._lock:
            if self._is_open():
                return self._connection
            self._check_restarts()
            self._starts.append(time.monotonic())
            if self._connection is not None:
                self._connection.close(wait=False)
            self._connection = connection = self._connected()
            # Not waiting: it may be called in any thread, by the garbage collector.
            weakref.finalize(self, connection.close, wait=False).atexit = False
            return connection

    def _check_restarts(self) -> None:
        """Raises `ToolServerError` for a server that ends as soon as it is started, again and again."""
        full = len(self._starts) == self._starts.maxlen
        if full and time.monotonic() - self._starts[0] < RESTART_SECONDS:
            raise ToolServerError(
                f"The MCP server {self.name!r} has ended {MAX_RESTARTS} times within {RESTART_SECONDS:g} s, and is not "
                "started again for now.",
                server=self.name,
            )

    def _connected(self) -> Any:
        if missing := self.__dict__.get("_missing"):
            raise ToolServerError(
                f"The MCP server {self.name!r} was loaded without its secrets, which are not saved: {', '.join(missing)}. "
                "Set them in the environment, or create it anew.",
                server=self.name,
            )
        try:
            from dspy_rlm.mcp_tools.connection import Connection
        except ImportError as error:  # it is missing, or of the first version
            raise ToolServerError(
                f'MCP servers need the `mcp` package: pip install "dspy-rlm[mcp]" ({error}).',
                server=self.name,
            ) from error
        try:
            return Connection(self.name, self._new_transport, self.start_timeout)
        except ToolServerError as error:
            raise self._clean(error) from None

    def _new_transport(self) -> Any:
        if self.command is not None:
            from dspy_rlm.mcp_tools.stdio import StdioServer

            return StdioServer(self.command, self.env, self.cwd, self.name)
        from dspy_rlm.mcp_tools.http import HttpServer

        url = str(self.url)
        is_sse = self.transport == "sse" or (
            self.transport is None and urlsplit(url).path.endswith(_SSE_END)
        )
        return HttpServer(url, self.headers, sse=is_sse, read_seconds=self._read_seconds())

    def _read_seconds(self) -> float | None:
        """Returns the longest silence of a reply, or of the stream of notifications, which is opened again then."""
        return None if self.timeout is None else max(self.timeout, _LEAST_READ_SECONDS)

    # ---- Secrets, copies, pickles ----

    def _own_secrets(self) -> list[str]:
        return secrets_in(self.command, self.url, self.env, self.headers)

    def _clean(self, error: ToolServerError) -> ToolServerError:
        text = redact_secrets(str(error), list(self._secrets.values()))
        return ToolServerError(text, server=self.name)

    def __repr__(self) -> str:
        """Returns the command or the address, without secrets."""
        where = repr(self.command) if self.url is None else f"url={url_without_secrets(self.url)!r}"
        prefix = f", prefix={self.prefix!r}" if self.prefix else ""
        return redact_secrets(f"MCP({where}{prefix})", list(self._secrets.values()))

    def __copy__(self) -> MCP:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> MCP:
        """Returns this object: a copy of an RLM uses the same server."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Returns the settings without the connection, and without secrets."""
        live = {"_lock", "_connection", "_starts", "_secrets"}
        state = {name: value for name, value in self.__dict__.items() if name not in live}
        return without_secrets(state, list(self._secrets.values()))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Sets the settings. Variables of `env` that were secret are read from the environment of this process."""
        self.__dict__.update(read_again(state))
        self._secrets = {f"secret_{at}": text for at, text in enumerate(self._own_secrets())}
        self._reset()
