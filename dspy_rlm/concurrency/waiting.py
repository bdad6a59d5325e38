"""Waiting for the future of a thread on an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any


async def wait_async(future: Future[Any]) -> None:
    """Waits for the end of the future, whatever it is. Cancelling this does not cancel the future."""
    if future.done():
        return
    waiter = asyncio.wrap_future(future)
    await asyncio.wait({waiter})
    if not waiter.cancelled():
        waiter.exception()  # marked as retrieved
