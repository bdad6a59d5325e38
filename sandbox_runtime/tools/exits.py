"""Turns whatever a tool raises to end its program into an error of the call.

`sys.exit()` in a tool, or an argument parser that meets a wrong option, must not end the host. `os._exit` and a
crash of the process cannot be stopped.
"""

from __future__ import annotations

import asyncio
import threading


def as_error(name: str, raised: BaseException) -> BaseException:
    """Returns the exception itself if a caller may see it, otherwise an error that tells what the tool did.

    The cancellation of the call stays what it is, and so does Ctrl-C, which Python raises in the main thread only.
    """
    if isinstance(raised, (StopIteration, StopAsyncIteration)):
        # It would end a loop of the cell without a word, such as list(map(tool, items)).
        return RuntimeError(
            f"{name}() raised {type(raised).__name__}: an iterator in it had no more items"
        )
    if isinstance(raised, Exception):
        return raised
    if isinstance(raised, asyncio.CancelledError) and _is_cancelled():
        return raised
    if isinstance(raised, KeyboardInterrupt) and _is_main_thread():
        return raised
    if isinstance(raised, SystemExit):
        return RuntimeError(
            f"{name}() called sys.exit({raised.code!r}), which ends a program, not a call. Other arguments "
            "may help; the tool itself should return a value or raise an Exception"
        )
    return RuntimeError(f"{name}() raised {type(raised).__name__}: {raised}")


def _is_cancelled() -> bool:
    """Returns whether the call's own task is cancelled: a tool may raise the same exception by itself."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
