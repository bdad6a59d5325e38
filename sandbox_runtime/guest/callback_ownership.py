"""The rule that every callback belongs to its cell: who may call the host now, and what may run.

A context variable holds a mark of the cell, new for each. asyncio runs a callback in the context in which
it was registered, so what an earlier cell left behind has the mark of that cell, or none, whenever and
however it comes to run. A mark is an object, not a number: nobody has one that is not made yet.
"""

from __future__ import annotations

import gc

# By name: a cell that replaces them in their modules does not replace them here.
from contextvars import Context, ContextVar
from typing import Any

_mark: ContextVar[object] = ContextVar("cell", default=None)


class Ownership:
    """The cell that runs, and what belongs to it."""

    def __init__(self) -> None:
        """No cell runs yet."""
        self._running: object = None
        self._collecting = False
        self._generators: set[int] = set()

    def begin(self) -> None:
        """A cell begins: what runs in this context from here on is its own."""
        self._generators = set()
        self._running = object()
        _mark.set(self._running)

    def end(self) -> None:
        """The cell has ended, and nothing belongs to it any more."""
        self._running = None
        self._generators = set()
        self._collecting = False
        _mark.set(None)

    def pause(self) -> object:
        """Lets nobody call until `resume`, which takes what this returns."""
        running, self._running = self._running, None
        return running

    def resume(self, running: object) -> None:
        """Goes on as before `pause`."""
        self._running = running

    def check(self, name: str) -> None:
        """Raises RuntimeError unless it is the running cell that calls."""
        if self._running is None:
            raise RuntimeError(f"{name}() was called after its cell had ended")
        if _mark.get() is not self._running:
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
        """Whether a callback that was registered in this context belongs to the running cell."""
        return self._running is not None and context.get(_mark) is self._running

    def watch_collector(self) -> None:
        """Notes from now on when Python's garbage collector runs finalizers."""
        gc.callbacks.append(self.note_collection)

    def note_collection(self, phase: str, _info: dict[str, int]) -> None:
        """Called by the collector at its start and its stop."""
        self._collecting = phase == "start"

    def generator_began(self, generator: Any) -> None:
        """An asynchronous generator begins, in the running cell."""
        self._generators.add(id(generator))

    def owns_generator(self, generator: Any) -> bool:
        """Whether an asynchronous generator is the running cell's, to be closed by its loop."""
        # By identity, which no other object can have while an older generator lives.
        return self._running is not None and id(generator) in self._generators
