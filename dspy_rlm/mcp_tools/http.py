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


def http_transport(
    url: str, headers: Mapping[str, str], *, sse: bool, read_seconds: float | None
) -> Any:
    """Returns the transport of a server, for `mcp.Client`. `read_seconds` is the longest wait for more of a reply."""
    if sse:
        return sse_client(
            url,
            headers=dict(headers),
            timeout=CONNECT_SECONDS,
            sse_read_timeout=read_seconds or 1e9,
            httpx_client_factory=_client,
        )
    return _streamable(url, headers, read_seconds)


@contextlib.asynccontextmanager
async def _streamable(
    url: str, headers: Mapping[str, str], read_seconds: float | None
) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(CONNECT_SECONDS, read=read_seconds)
    async with (
        _client(dict(headers), timeout) as client,
        streamable_http_client(
            url, http_client=client, max_sse_event_size=MAX_MESSAGE_BYTES
        ) as streams,
    ):
        yield streams


def _client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=headers, timeout=timeout, auth=auth, event_hooks={"response": [_bound]}
    )


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
