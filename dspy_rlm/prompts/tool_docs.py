"""Documents the user's tools for the LM."""

from __future__ import annotations

import dspy

from dspy_rlm.signatures.served_tools import line_of
from dspy_rlm.signatures.tool_calls import call_text, doc_text, tool_call_of
from sandbox_runtime.helpers import abridged

# The characters of the names of arguments in a line that has no more than names.
MAX_NAMES_CHARS = 120


def document(tool: dspy.Tool) -> str:
    """Returns the documentation of a tool: its call with types, its docstring, its argument descriptions.

    Of one of very many tools it is one line.
    """
    line = line_of(tool)
    if line is not None:
        names = ", ".join(tool_call_of(tool).signature.parameters)
        return f"- `{tool.name}({abridged(names, MAX_NAMES_CHARS)})`{f': {line}' if line else ''}"
    lines = [f"- `{call_text(tool)}`"]
    lines += [f"    {line}".rstrip() for line in doc_text(tool).splitlines()]
    return "\n".join(lines)


def tool_call(tool: dspy.Tool) -> str:
    """Returns the call of a tool with the types of its arguments and of its result."""
    return call_text(tool)
