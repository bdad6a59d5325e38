"""Replies that are only a `FINAL(...)` or `FINAL_VAR(...)`.

Those calls end a run in the RLM paper's own implementation (https://github.com/alexzhang13/rlm).
"""

from __future__ import annotations

import ast

from dspy_rlm.replies.fences import fenced_blocks
from dspy_rlm.replies.python_source import Work
from dspy_rlm.values.python_text import syntax_tree


def final_code(text: str, work: Work) -> str | None:
    """Returns the code for a reply that is only such a call; None for others.

    An argument that is not Python is taken for the answer itself. In a longer reply the call may be a quotation.
    """
    if "FINAL" not in text:
        return None
    found = fenced_blocks(text, work)
    if found.blocks and (found.outside.strip() or len(found.blocks) > 1):
        return None
    whole = (found.blocks[0].code if found.blocks else text).strip().rstrip(". \t")
    name = next((name for name in ("FINAL_VAR", "FINAL") if whole.startswith(f"{name}(")), "")
    if not name or not _is_one_call(whole, len(name)):
        return None
    inner = whole[len(name) + 1 : -1].strip()
    call = f"{name}({inner})"
    is_text = not work.compiles(call) or (name == "FINAL" and inner.isidentifier())
    return f"{name}({inner!r})" if is_text else call


def _is_one_call(text: str, opening: int) -> bool:
    """Returns True if the last character closes the bracket at `opening`, as Python or as plain text."""
    try:
        tree = syntax_tree(text, "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        depth = 0
        for at in range(opening, len(text)):
            depth += (text[at] == "(") - (text[at] == ")")
            if depth == 0:
                return at == len(text) - 1
        return False
    return isinstance(tree.body, ast.Call) and isinstance(tree.body.func, ast.Name)
