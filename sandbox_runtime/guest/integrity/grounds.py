"""Holds the parts of the foundation where a cell cannot replace them.

A part is in a closure variable, which never moves in memory, so `integrity.ts` can check and restore it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox_runtime.guest.integrity.foundation import Foundation
from sandbox_runtime.guest.integrity.object_memory import Memory


class Ground(NamedTuple):
    """A part of the foundation, as passed to `integrity.ts`. Nothing in it can be replaced."""

    restore: Any
    is_whole: Any
    """Returns whether everything is restored."""
    locate: Any
    """Returns the addresses of all words."""
    core: bytes
    """The addresses of the words of these functions and of the closure variable that holds the ground."""


def ground_slot(memory: Memory) -> tuple[Callable[[Foundation], Ground], Callable[[], Ground]]:
    """Creates a place for one ground. Returns the function that fills it and the one that reads it."""
    kept: Ground

    def fill(foundation: Foundation) -> Ground:
        nonlocal kept
        # The core includes the address of the closure variable, which therefore has to be filled first.
        kept = Ground(foundation.putter(), foundation.checker(), foundation.locator(memory), b"")
        functions: tuple[Any, ...] = (kept.restore, kept.is_whole, kept.locate, ground)
        kept = kept._replace(core=foundation.core(functions, memory))
        return kept

    def ground() -> Ground:
        return kept

    return fill, ground
