"""Binds the event loop to cells: a callback, or an asynchronous generator, runs in the cell that it belongs to.

Ordinary Python. `entry.py` applies it to Pyodide's loop, which all cells share.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import sys
import warnings
from typing import Any

from sandbox_runtime.guest.callback_ownership import Ownership
from sandbox_runtime.guest.driver import Driver

# The longest name of a coroutine in a note.
MAX_NAME_CHARS = 100

# By name: a cell that replaces it in its module does not replace it here.
_set_generator_hooks: Any = sys.set_asyncgen_hooks


def keep_exceptions(loop: Any) -> None:
    """Keeps exceptions of a cell's tasks inside Python: JavaScript cannot handle them."""
    loop.set_exception_handler(lambda _loop, _context: None)
    loop._system_exit_handler = loop._keyboard_interrupt_handler = lambda *_: None


def own_callbacks(loop: Any, driver: Driver, host: Any, waiting: set[asyncio.Handle]) -> None:
    """Makes a callback run only in the cell that registered it, and keeps track of those that wait.

    Also reports when Python works while host calls are awaited: the cell's clock runs then.
    """
    run = asyncio.events.Handle._run
    owns = driver.ownership.owns
    call_later = loop.call_later

    def noted(delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = call_later(delay, callback, *args, context=context)
        waiting.add(handle)
        return handle

    loop.call_later = noted

    def run_own(handle: Any) -> None:
        waiting.discard(handle)
        if not owns(handle._context):
            return None
        take_generators(loop)
        if not driver.calls.in_flight:
            return run(handle)
        host.set_idle(False)
        try:
            return run(handle)
        finally:
            host.set_idle(True)

    asyncio.events.Handle._run = run_own  # type: ignore[assignment, method-assign]


def own_generators(loop: Any, ownership: Ownership) -> None:
    """Makes the loop close an asynchronous generator in the cell that started it, or never."""
    began, ended = loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook

    def begin(generator: Any) -> None:
        ownership.generator_began(generator)
        began(generator)

    def end(generator: Any) -> None:
        ownership.close_generator(generator, ended)

    loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook = begin, end


def take_generators(loop: Any) -> None:
    """Sets the thread's hooks for asynchronous generators to those of the loop."""
    _set_generator_hooks(
        firstiter=loop._asyncgen_firstiter_hook, finalizer=loop._asyncgen_finalizer_hook
    )


def note_unawaited(driver: Driver) -> None:
    """Reports a forgotten `await` as a note, in place of a warning that shows a line of the harness.

    A stopped cell gets no note: the stop is the reason.
    """

    def note(coroutine: Any) -> None:
        if driver.running and not driver.stopped:
            driver.note(f"coroutine {coroutine.__qualname__[:MAX_NAME_CHARS]!r} was never awaited")

    warnings._warn_unawaited_coroutine = note  # type: ignore[attr-defined]
