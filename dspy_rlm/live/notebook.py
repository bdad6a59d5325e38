"""The live view in notebooks: a display that is updated in place, and stays as a static result."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from dspy_rlm.live.page import live_page
from dspy_rlm.live.refreshing import Refresher
from dspy_rlm.live.tree import Tree
from sandbox_runtime.helpers import start_thread

Start = Callable[[Callable[[], None], str], threading.Thread]


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in the output of a cell."""

    show: Callable[[str], None]
    """Shows a fragment of HTML, in place of the one before. Called in the threads of `start`."""

    start: Start = start_thread
    """Starts a thread that may show something."""


class NotebookDisplay:
    """The trees of runs, each in a separate place in the output of its cell."""

    def __init__(self, place: Callable[[], Place]) -> None:
        """Creates the display without an output. `place` creates one."""
        self._place = place
        self._lock = threading.Lock()  # guards the next
        self._shown: dict[Tree, Refresher] = {}

    def begin(self, tree: Tree) -> None:
        """See `Display`."""
        place = self._place()
        refresher = Refresher(functools.partial(_show, tree, place), tree.fail, place.start)
        with self._lock:
            self._shown[tree] = refresher
        refresher.start()

    def changed(self, tree: Tree) -> None:
        """See `Display`."""
        refresher = self._shown.get(tree)
        if refresher is not None:
            refresher.changed()

    def end(self, tree: Tree) -> None:
        """See `Display`."""
        with self._lock:
            refresher = self._shown.pop(tree, None)
        if refresher is not None:
            refresher.stop(last=not tree.is_off)
            refresher.wait()


def _show(tree: Tree, place: Place) -> None:
    with tree.lock:
        page = live_page(tree.root, tree.clock())
    place.show(page)


# ---- The notebooks ----


def notebook_place() -> Callable[[], Place] | None:
    """Returns the function that creates an output in the current notebook; None outside of notebooks."""
    return _marimo_place() or _jupyter_place()


def _jupyter_place() -> Callable[[], Place] | None:
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    # Not the shell in a terminal, which shows no HTML.
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    return _jupyter_output


def _jupyter_output() -> Place:
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    # A message belongs to the cell in whose context it is sent.
    context = contextvars.copy_context()
    return Place(lambda page: context.run(handle.update, HTML(page)))


def _marimo_place() -> Callable[[], Place] | None:
    if "marimo" not in sys.modules:
        return None
    marimo: Any = sys.modules["marimo"]
    with contextlib.suppress(Exception):
        if marimo.running_in_notebook():
            return functools.partial(_marimo_output, marimo)
    return None


def _marimo_output(marimo: Any) -> Place:
    """Returns a part of the cell's output. marimo knows the cell by the thread, so it is filled in one of marimo's own."""
    at = 0
    with contextlib.suppress(Exception):  # it has no public name
        from marimo._runtime.context import get_context

        at = len(get_context().execution_context.output)
    # Takes the place, so that the next run of the cell gets another.
    marimo.output.replace_at_index(marimo.Html(""), at)

    def start(work: Callable[[], None], name: str) -> threading.Thread:
        thread: threading.Thread = marimo.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    return Place(lambda page: marimo.output.replace_at_index(marimo.Html(page), at), start)
