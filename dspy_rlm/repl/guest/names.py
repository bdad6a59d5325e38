"""The functions of the REPL that run Python in the sandbox before they call the host.

Runs inside the sandbox. `front` wraps the function that calls the host: signatures and functions of the
cell become plain data, and failures in a batch become exceptions.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from dspy_rlm.repl.guest.signatures import Classes, describe_signature, rebuild_result

Call = Callable[..., Any]


class SubCallError(ValueError):
    """A row of a batch that has no valid result."""

    __module__ = "builtins"  # tracebacks show the name without the module


class Batch(list[Any]):
    """The results of many rows, in order. The result of a failed row is its exception."""

    @property
    def failed(self) -> dict[int, Exception]:
        """Returns the exceptions by row."""
        return {at: item for at, item in enumerate(self) if isinstance(item, Exception)}

    @property
    def ok(self) -> list[Any]:
        """Returns the results without the exceptions."""
        return [item for item in self if not isinstance(item, Exception)]


def front(name: str, call: Call) -> Any:
    """Returns the function that a cell gets under a name."""
    match name:
        case "predict":
            return _typed(call, rebuild_result)
        case "predict_batched":
            return _typed(call, _batch)
        case "sub_rlm":
            return _typed(call, _sub_run, _with_sources)
        case "rlm_query":
            return _typed(call, lambda value, _classes, _cls: value, _with_sources)
        case "FINAL" | "FINAL_VAR":
            return _final
        case "dspy":
            from dspy_rlm.repl.guest.dspy_module import module

            return module(call)
    raise LookupError(name)


def _typed(call: Any, take: Callable[..., Any], options: Callable[..., Any] = dict) -> Any:
    """Wraps a function whose first argument is a signature, and its `aio` and `batched` variants."""

    def tool(signature: Any, /, *args: Any, **kwargs: Any) -> Any:
        spec, classes, cls = describe_signature(signature)
        return take(call(spec, *args, **options(kwargs)), classes, cls)

    async def aio(signature: Any, /, *args: Any, **kwargs: Any) -> Any:
        spec, classes, cls = describe_signature(signature)
        return take(await call.aio(spec, *args, **options(kwargs)), classes, cls)

    def batched(signatures: Iterable[Any], *more: Iterable[Any], **kwargs: Any) -> Batch:
        specs = [describe_signature(signature) for signature in signatures]
        results = call.batched([spec for spec, _, _ in specs], *more, **options(kwargs))
        return Batch(
            item if isinstance(item, Exception) else take(item, classes, cls)
            for item, (_, classes, cls) in zip(results, specs, strict=True)
        )

    functions: tuple[Any, ...] = (tool, aio, batched)
    for function, original in zip(functions, (call, call.aio, call.batched), strict=True):
        functools.update_wrapper(function, original)
        del function.__wrapped__  # help() then shows the host's documentation
    tool.aio, tool.batched = aio, batched  # type: ignore[attr-defined]
    return tool


def _batch(values: list[Any], classes: Classes, cls: Any) -> Batch:
    return Batch(
        SubCallError(value.message)
        if type(value).__name__ == "FailedRow"
        else rebuild_result(value, classes, cls)
        for value in values
    )


def _sub_run(value: Any, classes: Classes, cls: Any) -> Any:
    """Returns the outputs of a sub-run; its `status` is no field of the cell's own class."""
    if cls is None or type(value).__name__ != "SubRun":
        return rebuild_result(value, classes, cls)
    status = vars(value).pop("status")
    result = rebuild_result(value, classes, cls)
    with contextlib.suppress(AttributeError, TypeError, ValueError):  # the class has no room for it
        object.__setattr__(result, "status", status)
    return result


def _with_sources(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Converts the functions in the options of a sub-run to names or source."""
    options = dict(kwargs)
    if isinstance(options.get("tools"), (list, tuple)):
        options["tools"] = [getattr(tool, "__name__", tool) for tool in options["tools"]]
    setup = options.get("setup")
    if setup is not None and not isinstance(setup, str):
        parts = setup if isinstance(setup, (list, tuple)) else [setup]
        options["setup"] = "\n\n".join(map(_source, parts))
    return options


def _source(part: Any) -> str:
    """Returns the source of a function or class that a cell defined; text unchanged."""
    if isinstance(part, str):
        return part
    try:
        text = _class_source(part) if isinstance(part, type) else inspect.getsource(part)
        source = textwrap.dedent(text)
    except (OSError, TypeError) as error:
        raise TypeError(
            f"The source of {part!r} is not available, so it cannot be passed to a sub-run. Pass its "
            "source as text."
        ) from error
    if not source.startswith(("def ", "async def ", "class ", "@")):
        raise TypeError(f"{part!r} is not a function with a name. Write it with def.")
    return source


def _class_source(cls: type) -> str:
    """Returns the source of a class from the latest cell that defines it, which `inspect` does not find."""
    for filename in reversed([name for name in linecache.cache if name.startswith("<cell ")]):
        lines = linecache.getlines(filename)
        try:
            statements = ast.parse("".join(lines)).body
        except SyntaxError:
            continue
        for node in statements:
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
                return "".join(lines[first - 1 : node.end_lineno])
    raise OSError(f"no cell defines {cls.__name__}")


def _final(*args: Any, **outputs: Any) -> None:
    """Ends the run, as SUBMIT does. The name of a variable stands for its value."""
    namespace = vars(sys.modules["__main__"])
    values = [
        namespace[arg] if isinstance(arg, str) and arg.isidentifier() and arg in namespace else arg
        for arg in args
    ]
    namespace["SUBMIT"](*values, **outputs)
