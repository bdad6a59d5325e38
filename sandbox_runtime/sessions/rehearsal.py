"""The cells that a pool runs in a session before it lends it, so that V8 has compiled what a borrower's first cells use.

They bind no names, import nothing and draw no random numbers: a borrower cannot tell that they ran. Knows no process.
"""

from __future__ import annotations

from sandbox_runtime.rpc.messages import ToolDeclaration, ToolReturned
from sandbox_runtime.rpc.sandbox_messages import ToolCall

TOOL = ToolDeclaration("rehearse", "rehearse(text)")
OUTPUTS = {"text": "str"}

_ROUND = (
    "print(1 + 1)",
    "rehearse('text')",
    "len('text') / 0",
    "sum([n * n for n in range(20_000)])",
    "SUBMIT(text='text')",
)

# V8 compiles a function again once it has been called a few times.
CELLS = _ROUND * 3


def answer(call: ToolCall) -> ToolReturned:
    """Answers a call of a rehearsed cell."""
    return ToolReturned(call.id, "json", '"text"')
