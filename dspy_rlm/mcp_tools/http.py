"""A server behind an address: streamable HTTP, or the older transport by server-sent events. Replies are bounded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from dspy_rlm.mcp_tools.bounds import MAX_MESSAGE_BYTES

CONNECT_SECONDS = 30.0

# For a transport that takes no None.
_FOREVER = 1e9

# The usual answers of a server that has no stream of notifications, or ends no sessions.
_HARMLESS_STATUS = frozenset({405})


class HttpServer:
    """A server behind an address, as a transport of `mcp.Client`."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, sse: bool, read_seconds: float | None
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: The address.
            headers: Headers of every request.
            sse: True for the older transport.
            read_seconds: The longest wait for more of a reply; None: any.
        """
        self._url = url
        self._headers = dict(headers)
        self._is_sse = sse
        self._read_seconds = read_seconds
        self._stack = contextlib.AsyncExitStack()
        self._status = 0

    async def __aenter__(self) -> Any:
        """Returns the streams of messages."""
        if self._is_sse:
            streams: Any = sse_client(
                self._url,
                headers=self._headers,
                timeout=CONNECT_SECONDS,
                sse_read_timeout=self._read_seconds or _FOREVER,
                httpx_client_factory=self._client,
            )
        else:
            timeout = httpx2.Timeout(CONNECT_SECONDS, read=self._read_seconds)
            client = await self._stack.enter_async_context(self._client(self._headers, timeout))
            streams = streamable_http_client(
                self._url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES
            )
        return await self._stack.enter_async_context(streams)

    async def __aexit__(self, *error: Any) -> bool | None:
        """Ends the session."""
        return await self._stack.__aexit__(*error)

    def ending(self) -> str:
        """Returns the server's last refusal; empty for none."""
        if self._status in (401, 403):
            return f"it answered {self._status}: pass a key that it accepts as one of the headers"
        return f"it answered {self._status}" if self._status else ""

    def _client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        hooks = {"response": [self._note, _bound]}
        return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, event_hooks=hooks)

    async def _note(self, response: httpx2.Response) -> None:
        if response.status_code >= 300 and response.status_code not in _HARMLESS_STATUS:
            self._status = response.status_code


async def _bound(response: httpx2.Response) -> None:
    """Bounds the body of a reply. An endless stream of events is bounded by the event, in the transport."""
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of a reply, up to a limit. They may be compressed: what they become is at most some times as large."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yields the parts. Raises `httpx2.ReadError` for one too many."""
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > MAX_MESSAGE_BYTES:
                raise httpx2.ReadError(f"a reply of more than {MAX_MESSAGE_BYTES:,} bytes")
            yield part

    async def aclose(self) -> None:
        """Closes the stream."""
        await self._stream.aclose()
