"""The user's tools as the LM reads them."""

from __future__ import annotations

import inspect

import dspy

from sandbox_runtime.helpers import shown_signature


def document(tool: dspy.Tool) -> str:
    """A tool as the LM reads it: the call with its types, the docstring, what is known of arguments."""
    lines = [f"- `{tool_call(tool)}`"]
    lines += [f"    {line}".rstrip() for line in inspect.cleandoc(tool.desc or "").splitlines()]
    for name, text in (tool.arg_desc or {}).items():
        lines.append(f"    {name}: {text}")
    return "\n".join(lines)


def tool_call(tool: dspy.Tool) -> str:
    """How to call a tool, with the types of its arguments and result."""
    try:
        signature = inspect.signature(tool.func, eval_str=True)
    except (NameError, SyntaxError, TypeError):  # annotations that name what is not there
        signature = inspect.signature(tool.func)
    return f"{tool.name}{shown_signature(signature)}".replace("typing.", "")
