"""The tools that DSPy converts from MCP and LangChain: functions of any arguments, with a JSON schema beside."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

# The modules that define the functions of converted tools.
MCP = "dspy.utils.mcp"
LANGCHAIN = "dspy.utils.langchain_tool"

# The texts that the conversion puts into the descriptions of arguments.
REQUIRED = " (Required)"
NO_DESCRIPTION = "No description provided."


def converter_of(function: Callable[..., Any]) -> str:
    """Returns the module that converted a tool with this function; empty if none did."""
    module = str(getattr(function, "__module__", ""))
    return module if module in (MCP, LANGCHAIN) else ""


def has_loop_of_its_own(function: Callable[..., Any]) -> bool:
    """Returns whether a converted tool answers only on the event loop that opened its MCP session."""
    if converter_of(function) != MCP:
        return False
    session = inspect.getclosurevars(function).nonlocals.get("session")
    return type(session).__module__.partition(".")[0] in ("mcp", "fastmcp")
