"""Documents the user's tools for the LM."""

from __future__ import annotations

import dspy

from dspy_rlm.signatures.tool_calls import call_text, doc_text


def document(tool: dspy.Tool) -> str:
    """Returns the documentation of a tool: its call with types, its docstring, its argument descriptions."""
    lines = [f"- `{call_text(tool)}`"]
    lines += [f"    {line}".rstrip() for line in doc_text(tool).splitlines()]
    return "\n".join(lines)


def tool_call(tool: dspy.Tool) -> str:
    """Returns the call of a tool with the types of its arguments and of its result."""
    return call_text(tool)
