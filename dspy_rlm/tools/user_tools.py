"""Checks the names of the user's tools and wraps the tools as host functions that cells can call."""

from __future__ import annotations

import functools
import inspect
import itertools
import keyword
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

import dspy
import pydantic

from dspy_rlm.errors import SignatureError
from dspy_rlm.middleware import HostFunction
from dspy_rlm.signatures.names import RESERVED_NAMES
from dspy_rlm.tools.wrapping import AWAITS, by_name, is_async
from dspy_rlm.values.conversion import TypeRules, convert, to_plain
from dspy_rlm.values.previews import DEFAULT_RULES, problems_of, staying
from sandbox_runtime.helpers import check_making

ToolSource: TypeAlias = "Callable[..., Any] | dspy.Tool"


def normalize_tools(
    tools: Collection[ToolSource] | Mapping[str, ToolSource] | None,
) -> dict[str, dspy.Tool]:
    """Returns the tools by name: by the keys of a mapping, or by the names of the functions in a list.

    Raises:
        SignatureError: Something is not a tool, or a name is reserved or not a Python identifier.
    """
    if tools is None:
        return {}
    if isinstance(tools, (str, bytes)) or not isinstance(tools, (Collection, Mapping)):
        raise SignatureError(f"tools must be a list of functions or dspy.Tool, not {tools!r}.")
    named = list(tools.items()) if isinstance(tools, Mapping) else [(None, tool) for tool in tools]
    normalized: dict[str, dspy.Tool] = {}
    for name, source in named:
        tool = _as_tool(source, name)
        _check_name(tool.name)
        if tool.name in normalized:
            raise SignatureError(
                f"Two tools are called {tool.name!r}. Rename one with dspy.Tool(f, name=...)."
            )
        normalized[tool.name] = tool
    return normalized


def _as_tool(source: ToolSource, name: str | None) -> dspy.Tool:
    if isinstance(source, dspy.Tool):
        return source if name in (None, source.name) else source.model_copy(update={"name": name})
    if not callable(source):
        raise SignatureError(f"A tool must be a function or a dspy.Tool, not {source!r}.")
    try:
        return dspy.Tool(source, name=name)
    except Exception as error:
        raise SignatureError(f"{source!r} cannot be a tool: {error}") from error


def _check_name(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise SignatureError(
            f"A tool cannot be called {name!r}: it is not a Python identifier. Name it with dspy.Tool(f, name=...)."
        )
    if name in RESERVED_NAMES:
        raise SignatureError(f"A tool cannot be called {name!r}: the REPL has that name itself.")


def host_function(tool: dspy.Tool, rules: TypeRules = DEFAULT_RULES) -> HostFunction:
    """Returns the host function of a tool. It takes arguments by position or by name, and checks them.

    For a coroutine function it returns a coroutine. `rules` say how to build values of some types from plain
    data.
    """
    signature = inspect.signature(tool.func)
    awaits = is_async(tool.func)
    trusting = tool.model_copy(update={"args": {name: {} for name in tool.args or {}}})
    # Python's `re` may backtrack without end on a pattern that Pydantic's engine matches in linear time.
    has_pattern = "'pattern" in str(tool.args)

    def invoke(*args: Any, **kwargs: Any) -> Any:
        named = by_name(signature, args, kwargs)
        checked = tool
        cheap = not has_pattern and _is_cheap(named.values())
        if not cheap or any(not _is_plain(value, rules) for value in named.values()):
            # DSPy first checks against a JSON schema, in Python: objects never pass, each part takes about
            # 20 microseconds, and a pattern takes much longer. Its errors also quote the value, which must
            # not happen to one that stays on the host. Its second check, by Pydantic, has no such problem.
            checked = trusting
            named = {
                name: _convert_argument(tool, name, value, rules) for name, value in named.items()
            }
        for name, value in named.items():
            check_making((tool.arg_types or {}).get(name, Any), value)
        return checked.acall(**named) if awaits else checked(**named)

    functools.update_wrapper(invoke, tool.func)
    invoke.__name__, invoke.__doc__ = tool.name, tool.desc
    invoke.__signature__ = signature  # type: ignore[attr-defined]
    setattr(invoke, AWAITS, awaits)
    return invoke


# Up to this many parts of arguments go through DSPy's own check, which is slow. Larger arguments are checked
# by Pydantic alone, which is a little more lenient ("5" for an int).
CHECKED_PARTS = 1000
CHECKED_CHARS = 10_000


def _is_cheap(values: Iterable[Any]) -> bool:
    """Returns True for a small amount of plain JSON data, where checking takes time in proportion to its size."""
    parts = chars = 0
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            chars += len(value)
        elif kind is list:
            waiting += value[:CHECKED_PARTS]
        elif kind is dict:
            waiting += itertools.islice(value.values(), CHECKED_PARTS)
        elif not (value is None or kind in (bool, int, float)):
            return False
        parts += len(value) if kind in (list, dict) else 1
        if parts > CHECKED_PARTS or chars > CHECKED_CHARS:
            return False
    return True


def _is_plain(value: Any, rules: TypeRules) -> bool:
    return _is_json(value) and to_plain(value) is value and staying(value, rules) is None


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, dict))


def _convert_argument(tool: dspy.Tool, name: str, value: Any, rules: TypeRules) -> Any:
    """Converts an argument to its declared type. Raises `ValueError` with the problem."""
    annotation = (tool.arg_types or {}).get(name, Any)
    if annotation is Any:
        return value
    try:
        return convert(value, annotation, rules, _validate)
    except (ValueError, TypeError) as error:
        problem = problems_of(annotation, value, error, rules)[0]
        raise ValueError(f"Arg {name} is invalid: {problem}") from error


def _validate(value: Any, annotation: Any) -> Any:
    return pydantic.TypeAdapter(annotation).validate_python(value)
