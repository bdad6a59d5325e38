"""Wraps the user's tools as host functions that cells can call."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import GenericAlias
from typing import Any

import dspy
import pydantic
import pydantic_core

from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.signatures.callables import (
    hint_of,
    is_only_async,
    reads_positions,
    without_metadata,
)
from dspy_rlm.signatures.tool_calls import ToolCall, doc_text, shown, tool_call_of
from dspy_rlm.tools.results import asettled, is_async_lazy, settled
from dspy_rlm.tools.wrapping import AWAITS, by_name, is_async
from dspy_rlm.values.conversion import TypeRules, convert, to_plain
from dspy_rlm.values.previews import DEFAULT_RULES, problems_of, staying
from sandbox_runtime import LazyText
from sandbox_runtime.helpers import (
    FlagError,
    as_error,
    bounded_flags,
    check_making,
    unbounded_flags,
    uncounted,
)


def host_function(tool: dspy.Tool, rules: TypeRules = DEFAULT_RULES) -> HostFunction:
    """Returns the host function of a tool. It takes arguments by position or by name, and checks them.

    For a coroutine function it returns a coroutine. `rules` say how to build values of some types from plain
    data.
    """
    call = tool_call_of(tool)
    awaits = _is_async(tool)
    checking = _by_name(tool, call, _Pending)
    types = dict(checking.arg_types or {})
    unread = [name for name, hint in types.items() if not _is_readable(hint)]
    checking = _for_dspy(checking, unread)
    as_written = reads_positions(tool.func)
    trusting = checking.model_copy(update={"args": {name: {} for name in checking.args or {}}})
    # Python's `re` may backtrack without end on a pattern that Pydantic's engine matches in linear time.
    has_pattern = "'pattern" in str(tool.args)
    right_call = f"{tool.name}{shown(call.signature)}"

    def invoke(*args: Any, **kwargs: Any) -> Any:
        named = _arguments(call, args, kwargs)
        if call.from_schema:
            named = {name: _as_json(name, value, rules) for name, value in named.items()}
        checked = checking
        cheap = not has_pattern and _is_cheap(named.values())
        if not cheap or any(not _is_plain(value, rules) for value in named.values()):
            # DSPy first checks against a JSON schema, in Python: objects never pass, each part takes about
            # 20 microseconds, and a pattern takes much longer. Its errors also quote the value, which must
            # not happen to one that stays on the host. Its second check, by Pydantic, has no such problem.
            checked = trusting
            named = {
                name: _convert_argument(types, name, value, rules, right_call)
                for name, value in named.items()
            }
        else:
            for name in filter(named.__contains__, unread):
                named[name] = _convert_argument(types, name, named[name], rules, right_call)
        for name, value in named.items():
            check_making(types.get(name, Any), value)
        if as_written and args:
            run = _runner(tool, call, _Pending, positions=len(args))
            checked = checked.model_copy(update={"func": run})
        sent = {_DSPYS_NAMES.get(name, name): value for name, value in named.items()}
        if awaits:
            return awaited(checked.acall(**sent), named)
        with explained(named), bounded_flags(*types.values()):
            result = checked(**sent)
        return result.awaitable if isinstance(result, _Pending) else result

    async def awaited(coroutine: Awaitable[Any], named: Mapping[str, Any]) -> Any:
        with explained(named), bounded_flags(*types.values()):
            return await coroutine

    @contextlib.contextmanager
    def explained(named: Mapping[str, Any]) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if problem := _problem_with_call(types, named, error, rules):
                raise ValueError(f"{problem} The call is {right_call}.") from error
            raise

    invoke.__name__ = invoke.__qualname__ = str(tool.name)
    invoke.__doc__ = doc_text(tool)
    invoke.__signature__ = shown(call.signature)  # type: ignore[attr-defined]
    setattr(invoke, AWAITS, awaits)
    return invoke


def callable_by_name(tool: dspy.Tool) -> dspy.Tool:
    """Returns the tool for callers that pass every argument by name, as DSPy's modules do.

    Arguments without a name are passed under the name of their parameter: `*args` as a sequence.
    """
    return _by_name(tool, tool_call_of(tool), lambda awaitable: awaitable)


def _by_name(tool: dspy.Tool, call: ToolCall, pending: Callable[[Any], Any]) -> dspy.Tool:
    """Returns the tool for arguments by name. `pending` wraps an awaitable result of a plain function."""
    types = dict(tool.arg_types or {})
    schemas = dict(tool.args or {})
    if call.unpacks:
        for name, parameter in call.signature.parameters.items():
            types[name] = hint_of(parameter)
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                schemas[name] = {}
                if parameter.kind is parameter.VAR_KEYWORD and types[name] is not Any:
                    types[name] = GenericAlias(dict, (str, types[name]))
    run = _runner(tool, call, pending)
    return tool.model_copy(update={"func": run, "arg_types": types, "args": schemas})


# Arguments that `dspy.Tool` cannot be called with by name, because its own methods have parameters of these names.
_DSPYS_NAMES = {"self": "self ", "instance": "instance "}
_OWN_NAMES = {dspys: own for own, dspys in _DSPYS_NAMES.items()}


def _for_dspy(tool: dspy.Tool, unread: Iterable[str]) -> dspy.Tool:
    """Returns the tool for DSPy's check, which fails for some names and types of arguments."""
    types = {_DSPYS_NAMES.get(n, n): hint for n, hint in (tool.arg_types or {}).items()}
    schemas = {_DSPYS_NAMES.get(n, n): schema for n, schema in (tool.args or {}).items()}
    for name in (_DSPYS_NAMES.get(n, n) for n in unread):
        types[name], schemas[name] = Any, {}
    for name, schema in schemas.items():
        # A list with equal items becomes a set without them.
        if isinstance(schema, Mapping) and schema.get("uniqueItems") and types.get(name) != Any:
            schemas[name] = {key: part for key, part in schema.items() if key != "uniqueItems"}
    return tool.model_copy(update={"arg_types": types, "args": schemas})


class _Pending:
    """An awaitable that a plain function returned. DSPy's synchronous call would refuse the awaitable itself."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable


def _runner(
    tool: dspy.Tool, call: ToolCall, pending: Callable[[Any], Any], positions: int = 0
) -> Callable[..., Any]:
    """Returns a function that calls the tool with arguments by name, and settles the result.

    It passes so many of them by position, where the tool itself looks at positions.
    """
    function: Callable[..., Any] = tool.func
    name = tool.name
    if isinstance(function, dspy.Module) and is_only_async(function):
        function = function.acall

    def start(sent: dict[str, Any]) -> Any:
        named = {_OWN_NAMES.get(name, name): value for name, value in sent.items()}
        named = {**{n: v for n, v in call.defaults.items() if n not in named}, **named}
        try:
            if call.unpacks:
                bound = inspect.BoundArguments(call.signature, named)
                return function(*bound.args, **bound.kwargs)
            leading = [named.pop(name) for name in [*call.signature.parameters][:positions]]
            return function(*leading, **named)
        except BaseException as raised:
            error = as_error(name, raised)
            if error is raised:
                raise
        raise error

    async def finish(result: Any) -> Any:
        try:
            if inspect.isawaitable(result):
                result = await result
            if is_async_lazy(result):
                return await asettled(name, result)
            return settled(name, result, call.outputs)
        except BaseException as raised:
            error = as_error(name, raised)
            if error is raised:
                raise
        raise error

    async def arun(**named: Any) -> Any:
        with unbounded_flags():
            return await finish(start(named))

    def run(**named: Any) -> Any:
        with uncounted(), unbounded_flags():  # the time of the user's function is not the cell's
            return complete(start(named))

    def complete(result: Any) -> Any:
        if inspect.isawaitable(result) or is_async_lazy(result):
            return pending(finish(result))
        try:
            return settled(name, result, call.outputs)
        except BaseException as raised:
            error = as_error(name, raised)
            if error is raised:
                raise
        raise error

    return arun if _is_async(tool) else run


def _is_async(tool: dspy.Tool) -> bool:
    if isinstance(tool.func, dspy.Module):
        return is_only_async(tool.func)
    return is_async(tool.func)


# ---- Arguments ----


def _arguments(call: ToolCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments by the tool's own names. Raises `TypeError` if they do not match."""
    if call.unpacks:
        return dict(call.signature.bind(*args, **kwargs).arguments)
    named = by_name(call.signature, args, kwargs)
    if call.from_schema:
        named = {n: v for n, v in named.items() if v is not None or not call.leaves_out(n)}
    return {call.own_names.get(name, name): value for name, value in named.items()}


def _as_json(name: str, value: Any, rules: TypeRules) -> Any:
    """Returns an argument of a tool with a JSON schema as JSON data. A value that stays on the host is kept."""
    if _is_json(value) and _is_plain(value, rules):
        return value
    if staying(value, rules) is not None:
        return value
    if isinstance(value, LazyText):
        return _whole_text(name, value)
    try:
        return pydantic_core.to_jsonable_python(to_plain(value))
    except (ValueError, TypeError) as error:
        raise ValueError(f"Arg {name} is invalid: {error}") from error


# The characters of a text on the host that are sent as one JSON argument.
MAX_TEXT_CHARS = 10_000_000


def _whole_text(name: str, text: LazyText) -> str:
    whole = text.read(0, MAX_TEXT_CHARS + 1)
    if len(whole) > MAX_TEXT_CHARS:
        raise ValueError(
            f"Arg {name} is invalid: the text has more than {MAX_TEXT_CHARS:,} characters. Pass a part of it."
        )
    return whole


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


def _convert_argument(
    types: Mapping[str, Any], name: str, value: Any, rules: TypeRules, right_call: str = ""
) -> Any:
    """Converts an argument to its declared type. Raises `ValueError` with the problem."""
    annotation = types.get(name, Any)
    if annotation is Any:
        return value
    try:
        return convert(value, annotation, rules, _validate)
    except (ValueError, TypeError) as error:
        problem = problems_of(without_metadata(annotation), value, error, rules)[0]
        advice = f" The call is {right_call}." if right_call else ""
        raise ValueError(f"Arg {name} is invalid: {problem}.{advice}") from error


def _problem_with_call(
    types: Mapping[str, Any], named: Mapping[str, Any], error: ValueError, rules: TypeRules
) -> str:
    """Returns what DSPy found wrong with the arguments; empty for an error of the tool itself."""
    if isinstance(error, (pydantic.ValidationError, FlagError)):
        # "Wrapper" is the name of the model that DSPy validates with.
        if isinstance(error, pydantic.ValidationError) and error.title != "Wrapper":
            return ""
        for name, value in named.items():
            try:
                _convert_argument(types, name, value, rules)
            except ValueError as problem:
                return str(problem)
        return ""
    text = str(error)
    return f"{text.rstrip('.')}." if type(error) is ValueError and text.startswith("Arg ") else ""


def _validate(value: Any, annotation: Any) -> Any:
    return _adapter(annotation).validate_python(value)


def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.errors.PydanticUserError:  # a class that Pydantic does not know: instances only
        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    try:
        return pydantic.TypeAdapter(annotation, config=config)
    except pydantic.errors.PydanticUserError:  # such as `typing.TypedDict` before Python 3.12
        return pydantic.TypeAdapter(Any)


def _is_readable(annotation: Any) -> bool:
    """Returns whether Pydantic can convert values to the type without help."""
    try:
        pydantic.TypeAdapter(annotation)
    except Exception:  # noqa: BLE001 - any type may be declared
        return False
    return True
