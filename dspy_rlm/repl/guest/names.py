"""The functions of the REPL that run Python in the sandbox before they call the host.

Runs inside the sandbox. `front` wraps the function that calls the host: signatures and functions of the
cell become plain data, and failures in a batch become exceptions.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import linecache
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from dspy_rlm.repl.guest.answers import answered, in_place_of
from dspy_rlm.repl.guest.signatures import Classes, describe_signature, rebuild_result

Call = Callable[..., Any]

# The elements of a container that `SHOW_VARS` looks at, and the most types of them that it lists.
MAX_LOOKED_AT = 10_000
MAX_KINDS = 4

# The packages of tables and arrays, and ours of those that replace them.
_WITH_A_SHAPE = ("numpy", "pandas", "polars", "pyarrow", "sandbox_runtime")


class SubCallError(ValueError):
    """A row of a batch that has no valid result."""

    __module__ = "builtins"  # tracebacks show the name without the module

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        reason = str(self).partition("\nThe last reply was:\n")[0].rstrip(".")
        raise AttributeError(
            f"this row failed, so it has no {name!r}: {reason}. The rows that did not fail are in `results.ok`."
        )

    def __getitem__(self, name: Any) -> NoReturn:
        self.__getattr__(str(name))


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
        case "sub_llm" | "sub_llm_batched" | "llm_query" | "llm_query_batched":
            return answered(call)
        case "predict":
            return _typed(call, rebuild_result)
        case "predict_batched":
            return _typed(call, _batch, names=("signature", "rows"))
        case "sub_rlm_batched":
            return _typed(call, _sub_runs, _with_sources, names=("signature", "rows"))
        case "rlm_query_batched":
            return _typed(call, _batch, _with_sources, names=("prompts", "contexts"))
        case "sub_rlm":
            return _typed(call, _sub_run, _with_sources)
        case "rlm_query" | "recursive_llm":
            return _typed(
                call,
                lambda value, _classes, _cls: value,
                _with_sources,
                names=("prompt",),
            )
        case "FINAL":
            return _final
        case "FINAL_VAR":
            return _final_var
        case "SHOW_VARS":
            return _show_vars
        case "HISTORY":
            return _history(call)
        case "dspy":
            from dspy_rlm.repl.guest.dspy_module import module

            return module(call)
    raise LookupError(name)


def _history(call: Call) -> Call:
    """Returns the function that adds the newest steps to one list and returns it."""
    steps: list[Any] = []
    fetched = [0]  # in a list: the harness restores the variables of its functions before each cell

    def history() -> list[Any]:
        """Returns the steps of this run so far: dicts with step, reasoning, code and output."""
        while more := call(fetched[0]):
            fetched[0] += len(more)
            steps.extend(more)
        return steps

    history.__name__ = history.__qualname__ = "HISTORY"
    return history


def _typed(
    call: Any,
    take: Callable[..., Any],
    options: Callable[..., Any] = dict,
    names: tuple[str, ...] = ("signature",),
) -> Any:
    """Wraps a function whose first argument is a signature, and its `aio` and `batched` variants.

    The first arguments, `names`, may be passed by keyword: a keyword of such a name is an input only where
    the argument was passed by position.
    """

    def positional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        values = list(args)
        while len(values) < len(names) and names[len(values)] in kwargs:
            values.append(kwargs.pop(names[len(values)]))
        if len(values) > 1 and names[1:2] == ("rows",):
            values[1] = _by_name(values[0], values[1])
        if not values:
            raise TypeError(f"{call.__name__}() is missing its first argument, the {names[0]}")
        return values

    def tool(*args: Any, **kwargs: Any) -> Any:
        signature, *more = positional(args, kwargs)
        spec, classes, cls = describe_signature(signature)
        return take(call(spec, *more, **options(kwargs)), classes, cls)

    async def aio(*args: Any, **kwargs: Any) -> Any:
        signature, *more = positional(args, kwargs)
        spec, classes, cls = describe_signature(signature)
        return take(await call.aio(spec, *more, **options(kwargs)), classes, cls)

    def batched(signatures: Iterable[Any], *more: Iterable[Any], **kwargs: Any) -> Batch:
        specs = [describe_signature(signature) for signature in signatures]
        results = call.batched([spec for spec, _, _ in specs], *more, **options(kwargs))
        return Batch(
            item if isinstance(item, Exception) else take(item, classes, cls)
            for item, (_, classes, cls) in zip(results, specs, strict=True)
        )

    return in_place_of(call, tool, aio, batched)


def _by_name(signature: Any, rows: Any) -> Any:
    """Returns the rows with named tuples of inputs as dicts, because a named tuple loses its names on its way."""
    if not isinstance(signature, str) or not isinstance(rows, (list, tuple)):
        return rows
    inputs = set(re.findall(r"\w+", signature.partition("->")[0]))
    return [_as_dict(row) if inputs.issuperset(_names_of(row)) else row for row in rows]


def _names_of(row: Any) -> Iterable[Any]:
    return getattr(row, "_fields", [None]) if isinstance(row, tuple) else [None]


def _as_dict(row: Any) -> dict[str, Any]:
    return row._asdict()  # type: ignore[no-any-return]


def _batch(values: list[Any], classes: Classes, cls: Any) -> Batch:
    return _rows(values, classes, cls, rebuild_result)


def _sub_runs(values: list[Any], classes: Classes, cls: Any) -> Batch:
    return _rows(values, classes, cls, _sub_run)


def _rows(values: list[Any], classes: Classes, cls: Any, take: Callable[..., Any]) -> Batch:
    return Batch(
        SubCallError(value.message)
        if type(value).__name__ == "FailedRow"
        else take(value, classes, cls)
        for value in values
    )


def _sub_run(value: Any, classes: Classes, cls: Any) -> Any:
    """Returns the outputs of a sub-run; the facts about it, as its `status`, are no fields of the cell's own class."""
    if cls is None or type(value).__name__ != "SubRun":
        return rebuild_result(value, classes, cls)
    fields = classes.fields(cls)
    facts = {name: vars(value).pop(name) for name in list(vars(value)) if name not in fields}
    result = rebuild_result(value, classes, cls)
    with contextlib.suppress(
        AttributeError, TypeError, ValueError
    ):  # the class has no room for them
        for name, fact in facts.items():
            object.__setattr__(result, name, fact)
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


def _final_var(*args: Any, **outputs: Any) -> None:
    """Ends the run with the value of a variable, `FINAL_VAR("name")`, or with a value."""
    namespace = vars(sys.modules["__main__"])
    for arg in args:
        if not isinstance(arg, str) or not arg.isidentifier() or arg in namespace:
            continue
        # A text that a variable holds is a value: FINAL_VAR(found).
        if not any(value is arg for value in namespace.values()):
            raise NameError(
                f"FINAL_VAR({arg!r}): there is no variable {arg!r}. Variables: {', '.join(_variables()) or 'none'}. "
                "Assign it first; FINAL(value) takes a text as it is."
            )
    _final(*args, **outputs)


def _variables() -> dict[str, Any]:
    """Returns the cell's variables by name, without functions of the REPL and modules."""
    return {
        name: value
        for name, value in vars(sys.modules["__main__"]).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and not _is_own(value)
    }


def _is_own(value: Any) -> bool:
    own = not isinstance(value, types.FunctionType)
    return not own and not value.__code__.co_filename.startswith("<cell ")


class Listing(str):
    """A text that a cell's last expression shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _show_vars() -> Listing:
    """Returns the variables with their types and sizes, one in a line."""
    lines = [f"{name}: {_measured(value)}" for name, value in _variables().items()]
    return Listing("\n".join(lines) or "There are no variables yet.")


def _measured(value: Any) -> str:
    """Returns the type of a value, with those of its elements, and its size."""
    kind = str if isinstance(value, str) else type(value)
    name = kind.__name__
    if kind in (str, bytes, bytearray):
        return f"{name}, {len(value):,} {'characters' if kind is str else 'bytes'}"
    if kind in (list, tuple, set, frozenset, dict):
        elements = value.values() if kind is dict else value
        kinds = {type(element).__name__ for element in itertools.islice(elements, MAX_LOOKED_AT)}
        inner = f" of {' | '.join(sorted(kinds))}" if 0 < len(kinds) <= MAX_KINDS else ""
        return f"{name}{inner}, {len(value):,} item{'' if len(value) == 1 else 's'}"
    if kind in (int, float, bool) or hasattr(kind, "_type_name"):
        return f"{name}, {value!r}"  # short; of a value that stays on the host, it has the size
    if kind.__module__.partition(".")[0] in _WITH_A_SHAPE and hasattr(value, "shape"):
        return f"{name}, shape {value.shape}"
    return name
