"""The names of a server's tools in the REPL: unique Python names that hide no other name."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence

from dspy_rlm.signatures.json_schemas import python_name
from dspy_rlm.signatures.names import RESERVED_NAMES

# The name of a tool whose own has no letter that a Python name can have.
_NAMELESS = "tool"

# The longest name.
_MAX_CHARS = 64


def names_in_repl(
    tools: Sequence[str], prefix: str, server: str, taken: Collection[str]
) -> list[str]:
    """Returns a name in the REPL for each tool, in order.

    Args:
        tools: The tools' own names.
        prefix: The beginning of every name; empty for none.
        server: The server's name. It is the prefix of names that are in use, or that would hide a name of Python or the REPL.
        taken: The names that the REPL has already: inputs, outputs, other tools.
    """
    used = set(taken)
    found = []
    for own in tools:
        plain = identifier(own)
        name = f"{identifier(prefix)}_{plain}"[:_MAX_CHARS] if prefix else plain
        if name in used or _hides(name):
            name = f"{identifier(server)}_{plain}"[:_MAX_CHARS]
        number = 2
        first = name
        while name in used or _hides(name):
            name = f"{first}_{number}"
            number += 1
        used.add(name)
        found.append(name)
    return found


def identifier(name: str) -> str:
    """Returns a Python name for any name: `web-search` is `web_search`."""
    plain = python_name(name)[:_MAX_CHARS].lstrip("_")
    if not plain.strip("_"):
        return _NAMELESS
    return plain if plain.isidentifier() else f"{_NAMELESS}_{plain}"


def _hides(name: str) -> bool:
    """Returns whether a name hides one of Python or the REPL, which a server could use to answer in its place."""
    return name in RESERVED_NAMES or hasattr(builtins, name)
