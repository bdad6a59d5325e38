"""The live view as plain lines: outside of a terminal, without rich, or on request.

`terminal.progress` prints the blocks of the steps. This module adds batches in which calls failed, the
stop, and the time of each part at the end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from dspy_rlm.events import Event, RunEnded
from dspy_rlm.live.state import RunView
from dspy_rlm.live.tree import Tree
from dspy_rlm.live.words import site_text, times_text
from dspy_rlm.terminal.escaping import show
from dspy_rlm.terminal.progress import INDENT, Progress

# The longest error of a batch that is printed.
MAX_ERROR_CHARS = 200


class PlainDisplay:
    """Prints lines during the runs of one tree. Printed lines are never redrawn."""

    def __init__(self, *, colour: bool = False) -> None:
        """Creates the display without printing. With `colour`, lines have the colours of a terminal."""
        self._lock = threading.Lock()  # guards the next
        self._said: set[int] = set()
        self._colour = colour

    def sink(self, run: RunView) -> Callable[[Event], None]:
        """Returns the sink of one run, after whose state is changed."""
        progress = Progress(run.depth, plain=not self._colour)

        def take(event: Event) -> None:
            for line in self._of_batches(run):
                show(f"{INDENT * (run.depth + 1)}{line}", sys.stderr)
            progress(event)
            if isinstance(event, RunEnded) and run.depth == 0:
                show(f"{INDENT}Time by part: {times_text(run, 0.0)}", sys.stderr)

        return take

    def _of_batches(self, run: RunView) -> list[str]:
        """Returns a line for each finished batch with failed calls, once."""
        lines = []
        for step in run.steps[-1:]:
            for site in step.sites:
                with self._lock:
                    is_new = site.failed and site.is_over and id(site) not in self._said
                    if is_new:
                        self._said.add(id(site))
                if is_new:
                    error = " ".join(site.error[:MAX_ERROR_CHARS].split())
                    lines.append(f"{site.name}: {site_text(site, site.ended or 0.0)}: {error}")
        return lines

    def begin(self, tree: Tree) -> None:
        """See `Display`."""

    def changed(self, tree: Tree) -> None:
        """See `Display`."""

    def end(self, tree: Tree) -> None:
        """See `Display`."""
