"""Chooses the display of a run: a notebook's, a terminal's, or plain lines."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, Literal, TypeAlias

from dspy_rlm.errors import SignatureError
from dspy_rlm.live.notebook import NotebookDisplay, notebook_place
from dspy_rlm.live.plain import PlainDisplay
from dspy_rlm.live.tree import Display

LiveOption: TypeAlias = bool | Literal["plain"] | Display | None

PLAIN = "plain"


def checked_live(live: Any) -> LiveOption:
    """Returns the option. Raises `SignatureError` for another value."""
    if live is None or isinstance(live, bool) or live == PLAIN or isinstance(live, Display):
        checked: LiveOption = live
        return checked
    raise SignatureError(
        f'live must be True, False, "plain", None or a display, not {live!r:.100}.'
    )


def display_for(live: LiveOption) -> Display:
    """Returns the display for a run.

    In a notebook, that is an output which is updated; on a terminal with rich, a tree; everywhere else, and with
    `"plain"`, lines. A display of one's own is that itself.
    """
    if isinstance(live, Display):
        return live
    if live != PLAIN:
        if (place := notebook_place()) is not None:
            return NotebookDisplay(place)
        if draws_on(sys.stderr) and importlib.util.find_spec("rich") is not None:
            from dspy_rlm.live.terminal import can_draw, terminal_display

            if can_draw(sys.stderr):
                return terminal_display(sys.stderr)
    return PlainDisplay(colour=live != PLAIN)


def draws_on(stream: Any) -> bool:
    """Returns whether a stream is a terminal that can draw a line again."""
    try:
        is_terminal = stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False
    return bool(is_terminal) and os.environ.get("TERM") not in ("dumb", "unknown")
