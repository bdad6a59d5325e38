"""Waiting for a future, in a thread and on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError, Future
from typing import Any


def wait_blocking(future: Future[Any]) -> None:
    """Blocks until the future has ended or is cancelled. Raises its exception."""
    with contextlib.suppress(CancelledError):
        future.result()


async def wait_async(future: Future[Any]) -> None:
    """Waits for the end of the future, whatever it is. Cancelling this does not cancel the future."""
    if future.done():
        return
    waiter = asyncio.wrap_future(future)
    await asyncio.wait({waiter})
    if not waiter.cancelled():
        waiter.exception()  # marked as retrieved
