"""The user's tools: their names, and the host functions that cells call."""

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
    """The tools by name. A mapping gives its own names, a list takes those of the functions.

    Raises:
        SignatureError: Something is no tool, or a name is taken or no Python identifier.
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
            f"A tool cannot be called {name!r}: it is no Python identifier. Name it with dspy.Tool(f, name=...)."
        )
    if name in RESERVED_NAMES:
        raise SignatureError(f"A tool cannot be called {name!r}: the REPL has that name itself.")


def host_function(tool: dspy.Tool, rules: TypeRules = DEFAULT_RULES) -> HostFunction:
    """The function that a cell's call runs: arguments by position or name, checked by DSPy's Tool.

    For a coroutine function it returns a coroutine. `rules` say how values of some types are made of
    plain data.
    """
    signature = inspect.signature(tool.func)
    awaits = is_async(tool.func)
    trusting = tool.model_copy(update={"args": {name: {} for name in tool.args or {}}})
    # Python's `re` may take for ever for a pattern that is linear for Pydantic's.
    has_pattern = "'pattern" in str(tool.args)

    def invoke(*args: Any, **kwargs: Any) -> Any:
        named = by_name(signature, args, kwargs)
        checked = tool
        cheap = not has_pattern and _is_cheap(named.values())
        if not cheap or any(not _is_plain(value, rules) for value in named.values()):
            # DSPy's first check is against a JSON schema, which no object passes, and which takes Python
            # some 20 microseconds for each part and much longer for a pattern; its second is not. And
            # its errors quote the value, which must not happen to one that stays on the host.
            checked = trusting
            named = {name: _fitted(tool, name, value, rules) for name, value in named.items()}
        for name, value in named.items():
            check_making((tool.arg_types or {}).get(name, Any), value)
        return checked.acall(**named) if awaits else checked(**named)

    functools.update_wrapper(invoke, tool.func)
    invoke.__name__, invoke.__doc__ = tool.name, tool.desc
    invoke.__signature__ = signature  # type: ignore[attr-defined]
    setattr(invoke, AWAITS, awaits)
    return invoke


# So many parts of arguments are checked by DSPy's own way, which is slow. More are the work of Pydantic
# alone, which makes a little more of what does not quite fit ("5" for an int).
CHECKED_PARTS = 1000
CHECKED_CHARS = 10_000


def _is_cheap(values: Iterable[Any]) -> bool:
    """Whether values are few plain JSON values, in which nothing nested costs more than its size."""
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


def _fitted(tool: dspy.Tool, name: str, value: Any, rules: TypeRules) -> Any:
    """An argument as its declared type. Raises `ValueError` with what is wrong."""
    annotation = (tool.arg_types or {}).get(name, Any)
    if annotation is Any:
        return value
    try:
        return convert(value, annotation, rules, _validated)
    except (ValueError, TypeError) as error:
        problem = problems_of(annotation, value, error, rules)[0]
        raise ValueError(f"Arg {name} is invalid: {problem}") from error


def _validated(value: Any, annotation: Any) -> Any:
    return pydantic.TypeAdapter(annotation).validate_python(value)
