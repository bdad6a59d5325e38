"""The tools that DSPy converts from MCP and LangChain: functions of any arguments, with a JSON schema beside."""

from __future__ import annotations

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
