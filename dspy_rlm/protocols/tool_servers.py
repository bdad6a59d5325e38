"""The protocol between an RLM and a server of tools, which are known only once it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import dspy


@runtime_checkable
class ToolServer(Protocol):
    """A source of tools that is opened when a run needs it."""

    def tools_for(self, taken: Collection[str]) -> Mapping[str, dspy.Tool]:
        """Returns the tools by their names in the REPL, none of which is taken. Opens the server if it is not open."""
        ...

    def close(self) -> None:
        """Closes the server. The next run opens it again."""
        ...
