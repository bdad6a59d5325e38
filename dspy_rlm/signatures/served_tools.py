"""Tools that a server offers: their list is known only when a run starts, and it may be too long for a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dspy

# Attributes of a tool's function: its one-line description, and True if prompts show no more than that.
_LINE, _BRIEF = "_dspy_rlm_line", "_dspy_rlm_brief"


def mark_served(function: Callable[..., Any], line: str) -> None:
    """Marks the function of a tool as one of a server, with a one-line description."""
    setattr(function, _LINE, line)


def is_served(tool: dspy.Tool) -> bool:
    """Returns whether a tool is one of a server."""
    return hasattr(tool.func, _LINE)


def shorten(tools: Iterable[dspy.Tool]) -> None:
    """Lets prompts show one line for each of the tools of servers; `help` still has all of it."""
    for tool in tools:
        if is_served(tool):
            setattr(tool.func, _BRIEF, True)


def line_of(tool: dspy.Tool) -> str | None:
    """Returns the one-line description of a tool that is shown by it alone; None for other tools."""
    line: str = getattr(tool.func, _LINE, "")
    return line if getattr(tool.func, _BRIEF, False) else None
