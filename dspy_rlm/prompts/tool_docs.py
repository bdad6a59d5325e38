"""Documents the user's tools for the LM."""

from __future__ import annotations

import inspect

import dspy

from sandbox_runtime.helpers import shown_signature


def document(tool: dspy.Tool) -> str:
    """Returns the documentation of a tool: its call with types, its docstring, its argument descriptions."""
    lines = [f"- `{tool_call(tool)}`"]
    lines += [f"    {line}".rstrip() for line in inspect.cleandoc(tool.desc or "").splitlines()]
    for name, text in (tool.arg_desc or {}).items():
        lines.append(f"    {name}: {text}")
    return "\n".join(lines)


def tool_call(tool: dspy.Tool) -> str:
    """Returns the call of a tool with the types of its arguments and of its result."""
    try:
        signature = inspect.signature(tool.func, eval_str=True)
    except (NameError, SyntaxError, TypeError):  # annotations with unknown names
        signature = inspect.signature(tool.func)
    return f"{tool.name}{shown_signature(signature)}".replace("typing.", "")
