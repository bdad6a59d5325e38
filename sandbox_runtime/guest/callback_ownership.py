"""Binds every callback to its cell: decides which code may call the host, and which callbacks may run.

A context variable holds a marker, a new one for each cell. asyncio runs a callback in the context in which
it was registered, so a callback of an earlier cell has that cell's marker, or none, whenever and however it
runs. A marker is an object, not a number: a future marker cannot be guessed.
"""

from __future__ import annotations

import gc

# By name: a cell that replaces them in their modules does not replace them here.
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

_mark: ContextVar[object] = ContextVar("cell", default=None)


class Ownership:
    """The running cell, and what belongs to it."""

    def __init__(self) -> None:
        """Starts without a running cell."""
        self._running: object = None
        self._collecting = False
        self._generators: dict[int, Context] = {}

    def begin(self) -> None:
        """Begins a cell: from here on, code that runs in this context belongs to it."""
        self._generators = {}
        self._running = object()
        _mark.set(self._running)

    def end(self) -> object:
        """Ends the cell: nothing belongs to it any more. Returns what was of it."""
        ended = self._running, self._generators, self._collecting, _mark.set(None)
        self._running = None
        self._generators = {}
        self._collecting = False
        return ended

    @property
    def is_over(self) -> bool:
        """True if nothing belongs to a cell."""
        generators = self._generators
        return (
            self._running is None
            and self._collecting is False
            and type(generators) is dict
            and not generators
            and _mark.get() is None
        )

    def pause(self) -> object:
        """Forbids all calls until `resume`, which takes the value returned here."""
        running, self._running = self._running, None
        return running

    def resume(self, running: object) -> None:
        """Restores the state before `pause`."""
        self._running = running

    def check(self, name: str) -> None:
        """Raises RuntimeError unless the caller is the running cell."""
        running = self._running
        if running is not None and _mark.get() is running and not self._collecting:
            return
        if running is None:
            raise RuntimeError(f"{name}() was called after its cell had ended")
        if _mark.get() is not running:
            raise RuntimeError(
                f"{name}() was called by a callback of an earlier cell, or in a context of its own; "
                "call it from the cell itself or from a task of this cell"
            )
        if self._collecting:
            raise RuntimeError(
                f"{name}() was called while garbage is collected: a finalizer runs at any time, also "
                "in a later cell; call it from the cell itself"
            )

    def owns(self, context: Context) -> bool:
        """Returns whether a callback registered in this context belongs to the running cell."""
        return self._running is not None and context.get(_mark) is self._running

    def watch_collector(self) -> None:
        """Starts to track when Python's garbage collector runs finalizers."""
        gc.callbacks.append(self.note_collection)

    def note_collection(self, phase: str, _info: dict[str, int]) -> None:
        """Callback of the collector for its start and stop."""
        self._collecting = phase == "start"

    def generator_began(self, generator: Any) -> None:
        """Records an asynchronous generator that starts in the running cell."""
        self._generators[id(generator)] = copy_context()

    def close_generator(self, generator: Any, close: Callable[[Any], object]) -> None:
        """Lets the loop close a generator of the running cell, as a part of that cell. Drops any other."""
        if self.owns_generator(generator):
            self._generators[id(generator)].run(close, generator)

    def owns_generator(self, generator: Any) -> bool:
        """Returns whether an asynchronous generator belongs to the running cell, so its loop may close it."""
        # By identity, which no other object can have while the generator is alive.
        return self._running is not None and id(generator) in self._generators
