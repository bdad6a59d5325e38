"""Counts the suspended stacks, and pauses the automatic garbage collection while it would read one of them.

CPython's incremental collector walks the frames of all stacks. Some of them lie in the memory of the stack itself,
and Pyodide 314 moves that memory elsewhere once another stack needs the room: the collector would then read what
the other stack has written there. A full collection walks no frames.
"""

from __future__ import annotations

# By name: a cell that replaces them in their module does not replace them here.
from gc import collect, disable, enable, get_count, isenabled

# A full collection takes the place of the automatic ones after this many new objects.
FULL_COLLECTION_OBJECTS = 200_000


class SuspendedStacks:
    """The stacks that wait for an awaitable."""

    def __init__(self) -> None:
        """Starts without any."""
        self._count = 0
        self._paused = False

    def enter(self) -> None:
        """Notes that the current stack is about to be suspended."""
        self._count += 1
        # The first stack is the cell's own. What runs while it alone waits has its memory below.
        if self._count > 1:
            if not self._paused and isenabled():
                self._paused = True
                disable()
            if self._paused and get_count()[0] > FULL_COLLECTION_OBJECTS:
                collect()

    def leave(self) -> None:
        """Notes that the current stack goes on."""
        self._count -= 1
        if self._count > 0 and not self._paused and isenabled():
            self._paused = True
            disable()
        elif self._count <= 0:
            self._count = 0
            if self._paused:
                self._paused = False
                enable()

    def reset(self) -> None:
        """Forgets the stacks of earlier cells. The collector is started with the cell."""
        self._count = 0
        self._paused = False
