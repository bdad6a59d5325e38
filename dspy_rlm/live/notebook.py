"""The live view in notebooks: a display that is updated in place, and stays as a static result."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from dspy_rlm.live.page import live_page
from dspy_rlm.live.refreshing import Refresher
from dspy_rlm.live.tree import Tree

Show = Callable[[str], None]
"""Shows a fragment of HTML, in place of the one before."""


class NotebookDisplay:
    """The trees of runs, each in a place of its own in the output of its cell."""

    def __init__(self, place: Callable[[], Show]) -> None:
        """Shows nothing yet. `place` creates an output, and returns the function that fills it."""
        self._place = place
        self._lock = threading.Lock()  # guards the next
        self._shown: dict[Tree, tuple[Show, Refresher]] = {}

    def begin(self, tree: Tree) -> None:
        """See `Display`."""
        show = self._place()
        refresher = Refresher(functools.partial(_show, tree, show), tree.fail)
        with self._lock:
            self._shown[tree] = show, refresher
        _show(tree, show)
        refresher.start()

    def changed(self, tree: Tree) -> None:
        """See `Display`."""
        shown = self._shown.get(tree)
        if shown is not None:
            shown[1].changed()

    def end(self, tree: Tree) -> None:
        """See `Display`."""
        with self._lock:
            shown = self._shown.pop(tree, None)
        if shown is not None:
            show, refresher = shown
            refresher.stop()
            refresher.wait()
            if not tree.is_off:
                _show(tree, show)


def _show(tree: Tree, show: Show) -> None:
    with tree.lock:
        page = live_page(tree.root, tree.clock())
    show(page)


# ---- The notebooks ----


def notebook_place() -> Callable[[], Show] | None:
    """Returns what creates an output in the notebook that this code runs in; None outside of notebooks."""
    return _marimo_place() or _jupyter_place()


def _jupyter_place() -> Callable[[], Show] | None:
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    # Not the shell in a terminal, which shows no HTML.
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    return _jupyter_output


def _jupyter_output() -> Show:
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    # Messages belong to the cell whose context this is; the thread that updates them has another.
    context = contextvars.copy_context()
    lock = threading.Lock()  # a context is entered by one thread at a time

    def show(page: str) -> None:
        with lock:
            context.run(handle.update, HTML(page))

    return show


def _marimo_place() -> Callable[[], Show] | None:
    if "marimo" not in sys.modules:
        return None
    marimo: Any = sys.modules["marimo"]
    with contextlib.suppress(Exception):
        if marimo.running_in_notebook():
            return functools.partial(_marimo_output, marimo)
    return None


def _marimo_output(marimo: Any) -> Show:
    """Returns what replaces a part of the cell's output. marimo knows the cell by the thread that runs it."""
    from marimo._runtime.context import get_context

    context = get_context()
    cell = context.execution_context.cell_id if context.execution_context else None
    stream = context.stream

    def show(page: str) -> None:
        from marimo._messaging.cell_output import CellChannel
        from marimo._messaging.notification_utils import CellNotificationUtils

        CellNotificationUtils.broadcast_output(
            channel=CellChannel.OUTPUT,
            mimetype="text/html",
            data=page,
            cell_id=cell,
            status=None,
            stream=stream,
        )

    return show
