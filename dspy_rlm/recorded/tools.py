"""A tool that returns its recorded results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dspy_rlm.journal.records import ToolRecord
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.recorded.exceptions import rebuilt
from dspy_rlm.recorded.keys import tool_key
from dspy_rlm.tools.wrapping import is_async

Take = Callable[[str], ToolRecord | None]
"""Takes the recorded call with a key; None if there is none, and the tool is to be called."""


def played_tool(
    name: str, function: HostFunction, take: Take, value: Callable[[Any], Any]
) -> HostFunction:
    """Returns the function, which returns its recorded results and raises its recorded errors, as far as there are any."""

    def result(record: ToolRecord) -> Any:
        if record.error is not None:
            raise rebuilt(record.error)
        return value(record.result)

    if is_async(function):

        @functools.wraps(function)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            record = take(tool_key(name, args, kwargs))
            return await function(*args, **kwargs) if record is None else result(record)

        return acall

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        record = take(tool_key(name, args, kwargs))
        return function(*args, **kwargs) if record is None else result(record)

    return call
