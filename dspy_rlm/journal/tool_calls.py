"""Records the calls of host functions: tools with arguments and results, functions of the REPL by name."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Collection
from typing import Any

from dspy_rlm.journal.recorder import RunRecorder, packed_error, parent_call
from dspy_rlm.journal.stored_values import packed_value
from dspy_rlm.protocols.middleware import HostFunction, Wrapper


def recording_calls(recorder: RunRecorder, tools: Collection[str]) -> Wrapper:
    """Returns a wrapper that records the calls of functions.

    Args:
        recorder: Of the run.
        tools: The names of the user's tools. Of other functions no arguments and no result are recorded: their LM calls and
            sub-runs are.
    """
    return lambda name, function: _recorded(recorder, name, function, is_tool=name in tools)


def _recorded(
    recorder: RunRecorder, name: str, function: HostFunction, *, is_tool: bool
) -> HostFunction:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tool_call = _ToolCall(recorder, is_tool=is_tool)
        tool_call.started(name, args, kwargs)
        token = parent_call.set(tool_call.call_id)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            tool_call.failed(error)
            raise
        finally:
            parent_call.reset(token)
        if inspect.iscoroutine(result):
            return _awaited(tool_call, result)
        tool_call.returned(result)
        return result

    return call


async def _awaited(tool_call: _ToolCall, coroutine: Any) -> Any:
    token = parent_call.set(tool_call.call_id)
    try:
        result = await coroutine
    except BaseException as error:
        tool_call.failed(error)
        raise
    finally:
        _reset(token)
    tool_call.returned(result)
    return result


def _reset(token: Any) -> None:
    try:
        parent_call.reset(token)
    except ValueError:  # an abandoned coroutine is closed in another context
        return


class _ToolCall:
    """One call of a host function."""

    def __init__(self, recorder: RunRecorder, *, is_tool: bool) -> None:
        self.call_id = recorder.new_call_id()
        self._recorder = recorder
        self._is_tool = is_tool
        self._began = time.monotonic()
        recorder.host_calls.enter()

    def started(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records the beginning."""

        def fields() -> dict[str, Any]:
            start: dict[str, Any] = {"call": self.call_id, "name": name, "is_tool": self._is_tool}
            if self._is_tool:
                packer = self._recorder.packer
                start["arguments"] = packed_value([list(args), kwargs], Any, packer)
            return start

        self._recorder.emit("tool", fields)

    def returned(self, result: Any) -> None:
        """Records the result."""
        self._end(
            lambda: (
                {"result": packed_value(result, Any, self._recorder.packer)}
                if self._is_tool
                else {}
            )
        )

    def failed(self, error: BaseException) -> None:
        """Records the exception."""
        self._end(lambda: {"error": packed_error(error, self._recorder.packer)})

    def _end(self, fields: Any) -> None:
        seconds = time.monotonic() - self._began
        self._recorder.host_calls.leave()
        self._recorder.emit(
            "tool_end", lambda: {"call": self.call_id, "seconds": seconds, **fields()}
        )
