"""The live view on a terminal: all trees of the process, one below the other, at the bottom of stderr.

A tree that is over is printed whole, above those that go on, and stays there.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Any, TextIO

from rich.console import Console

from dspy_rlm.live.painter import Above, Painter, measured, terminal_size
from dspy_rlm.live.refreshing import Refresher
from dspy_rlm.live.rich_tree import Ansi, Line, RichTree
from dspy_rlm.live.tree import Tree

# Columns of a readable width at most.
MAX_WIDTH = 120

# The least rows of a tree; with more trees than fit, the first ones are shown.
LEAST_ROWS = 6


class TerminalDisplay:
    """The trees of this process on a terminal. One for all runs: they share its rows."""

    def __init__(self, stream: TextIO) -> None:
        """Shows nothing yet."""
        self._lock = threading.RLock()  # guards everything below
        self._stream = stream
        self._trees: dict[Tree, RichTree] = {}
        self._painter: Painter | None = None
        self._refresher: Refresher | None = None
        self._restore = contextlib.ExitStack()
        self._ansi = Ansi()
        self._ascii_only = not _encodes(stream, "├─╰▶✓✗…━⠋·")

    def begin(self, tree: Tree) -> None:
        """See `Display`."""
        with self._lock:
            self._trees[tree] = RichTree(ascii_only=self._ascii_only)
            if self._painter is None:
                self._start()

    def changed(self, tree: Tree) -> None:
        """See `Display`."""
        refresher = self._refresher
        if refresher is not None:
            refresher.changed()

    def end(self, tree: Tree) -> None:
        """See `Display`."""
        with self._lock:
            renderer, painter = self._trees.pop(tree, None), self._painter
            if renderer is None or painter is None:
                return
            try:
                if not tree.is_off:
                    lines = self._final(tree, renderer)
                    if self._trees:
                        painter.above("".join(f"{line}\r\n" for line in lines))
                        self._paint()
                    else:
                        painter.paint([])
                        painter.above("".join(f"{line}\r\n" for line in lines))
            finally:
                if not self._trees:
                    self._stop()

    # ---- Drawing ----

    def _start(self) -> None:
        painter = self._painter = Painter(self._stream)
        self._restore = contextlib.ExitStack()
        for name in ("stdout", "stderr"):
            self._redirect(name, painter)
        atexit.register(self._at_exit)
        self._restore.callback(atexit.unregister, self._at_exit)
        self._refresher = Refresher(self._refresh, self._fail)
        self._refresher.start()

    def _redirect(self, name: str, painter: Painter) -> None:
        """Lets other code print above the lines, while they are shown."""
        stream: Any = getattr(sys, name)
        if stream is None or not stream.isatty():
            return
        proxy = Above(stream, painter)
        setattr(sys, name, proxy)

        def restore() -> None:
            proxy.flush()
            if getattr(sys, name) is proxy:  # else a program has replaced it
                setattr(sys, name, stream)

        self._restore.callback(restore)

    def _stop(self) -> None:
        with self._lock:
            painter, refresher = self._painter, self._refresher
            self._painter = self._refresher = None
            if refresher is not None:
                refresher.stop()
            try:
                if painter is not None:
                    painter.close()
            finally:
                self._restore.close()

    def _at_exit(self) -> None:
        """Removes the lines of runs that never ended: their threads were abandoned."""
        with contextlib.suppress(Exception):
            self._stop()

    def _refresh(self) -> None:
        with self._lock:
            self._paint()

    def _fail(self, error: Exception) -> None:
        for tree in list(self._trees):
            tree.fail(error)
        with contextlib.suppress(Exception):
            self._stop()

    def _paint(self) -> None:
        painter = self._painter
        if painter is None:
            return
        size = terminal_size(self._stream)
        width, rows = min(size.columns - 1, MAX_WIDTH), max(size.lines - 1, 1)
        trees = list(self._trees.items())[: max(rows // LEAST_ROWS, 1)]
        more = len(self._trees) - len(trees)
        lines: list[Line] = []
        for at, (tree, renderer) in enumerate(trees):
            room = (rows - bool(more) - len(lines)) // (len(trees) - at)
            with tree.lock:
                lines += renderer.live(tree.root, tree.clock(), width, room)
        if more > 0:
            lines.append(Line(f"and {more} more run{'' if more == 1 else 's'}", style="dim"))
        console = self._console(width)
        painter.paint(measured(self._ansi.of(lines, console), [line.plain for line in lines]))

    def _final(self, tree: Tree, renderer: RichTree) -> list[str]:
        width = min(terminal_size(self._stream).columns - 1, MAX_WIDTH)
        with tree.lock:
            lines = renderer.final(tree.root, tree.clock(), width)
        return Ansi().of(lines, self._console(width))

    def _console(self, width: int) -> Console:
        """Returns what knows the colours of the terminal, and `NO_COLOR`."""
        return Console(file=self._stream, width=width, force_terminal=True)


def _encodes(stream: TextIO, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


_lock = threading.Lock()  # guards the next
_displays: dict[
    tuple[int, int], TerminalDisplay
] = {}  # by process: a fork has no thread of its parent


def can_draw(stream: TextIO) -> bool:
    """Returns whether a terminal understands escape codes: the old console of Windows does not."""
    return not Console(file=stream, force_terminal=True).legacy_windows


def terminal_display(stream: TextIO) -> TerminalDisplay:
    """Returns the display of a terminal, which all runs of the process share."""
    if isinstance(stream, Above):  # another run is shown already
        stream = stream._stream
    with _lock:
        key = os.getpid(), id(stream)
        if key not in _displays:
            _displays[key] = TerminalDisplay(stream)
        return _displays[key]
