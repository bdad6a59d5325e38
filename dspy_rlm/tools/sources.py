"""Turns what the user passes as `tools` into `dspy.Tool`s by name, or says why it is none and what to pass."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import dspy
import pydantic

from dspy_rlm.dspy_internals.converted_tools import has_loop_of_its_own
from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.protocols.tool_servers import ToolServer
from dspy_rlm.signatures.callables import constrains, describe, hint_of
from dspy_rlm.signatures.json_schemas import python_name
from dspy_rlm.signatures.names import RESERVED_NAMES
from sandbox_runtime.helpers import in_one_line

logger = logging.getLogger(__name__)

ToolSource: TypeAlias = "Callable[..., Any] | dspy.Tool | ToolServer"

# The characters of a value's `repr` in an error message.
_SHOWN_CHARS = 100

_LAMBDA = "<lambda>"
_RENAME = "Name it in a mapping: tools={'a_name': ...}."


def normalize_tools(
    tools: Iterable[ToolSource] | Mapping[str, ToolSource] | None,
) -> dict[str, dspy.Tool]:
    """Returns the tools by name: by the keys of a mapping, or by the names of the functions in a list.

    Raises:
        SignatureError: Something is not a tool, or a name is reserved or not a Python identifier.
    """
    if tools is None:
        return {}
    if callable(tools) or isinstance(tools, pydantic.BaseModel):
        raise SignatureError(
            f"tools must be a list of functions or dspy.Tool, not {_short(tools)}. For one tool write "
            "tools=[it]."
        )
    if isinstance(tools, (str, bytes)) or not isinstance(tools, Iterable):
        raise SignatureError(
            f"tools must be a list of functions or dspy.Tool, not {_short(tools)}."
        )
    named = list(tools.items()) if isinstance(tools, Mapping) else [(None, tool) for tool in tools]
    normalized: dict[str, dspy.Tool] = {}
    for name, source in named:
        tool = _python_named(_as_tool(source, name))
        _check_name(tool.name)
        if tool.name in normalized:
            raise SignatureError(
                f"Two tools are called {tool.name!r}. Rename one with dspy.Tool(f, name=...), or pass a "
                "mapping: tools={'one': f, 'other': g}."
            )
        normalized[tool.name] = tool
    if isinstance(
        tools, (set, frozenset)
    ):  # their order differs between processes; prompts must not
        return dict(sorted(normalized.items()))
    return normalized


def check_loop(tools: Iterable[dspy.Tool], loop: asyncio.AbstractEventLoop | None) -> None:
    """Raises `InputError` for tools that could never answer a synchronous run, in which `loop` is None."""
    bound = [str(tool.name) for tool in tools if loop is None and has_loop_of_its_own(tool.func)]
    if bound:
        raise InputError(
            f"{', '.join(bound)}: a tool of an MCP session answers on the event loop that opened the session, "
            "which a synchronous run does not use. Call `await rlm.acall(...)` in that loop."
        )


def _as_tool(source: Any, name: Any) -> dspy.Tool:
    if name is not None and (not isinstance(name, str) or not name):
        raise SignatureError(
            f"The name of a tool must be a text with a Python name, not {_short(name)}."
        )
    if not isinstance(source, dspy.Tool):
        if _is_langchains(source):
            source = _from_langchain(source)
        else:
            _check_callable(source)
            return _tool_of(source, name)
    tool = _completed(source)
    return tool if name in (None, tool.name) else tool.model_copy(update={"name": name})


def _check_callable(source: Any) -> None:
    """Raises `SignatureError` for what is no tool, with what to pass instead."""
    if inspect.isclass(source) and issubclass(source, dspy.Module):
        raise SignatureError(
            f"{source.__name__} is a class of modules. A tool must be an instance: {source.__name__}(...)."
        )
    if inspect.isclass(source) and issubclass(source, dspy.Signature):
        raise SignatureError(
            f"{source.__name__} is a signature. A tool must be a function or a module, such as "
            f"dspy.Predict({source.__name__})."
        )
    if inspect.isclass(source) and source in vars(builtins).values():
        raise SignatureError(
            f"{source.__name__} cannot be a tool: every cell has Python's own. A tool must be a function or "
            "a dspy.Tool."
        )
    if callable(source):
        return
    hint = ""
    if hasattr(source, "inputSchema") or hasattr(source, "input_schema"):
        hint = " For a tool of an MCP server: dspy.Tool.from_mcp_tool(session, tool)."
    elif isinstance(source, str):
        hint = " Pass the function itself, not its name."
    elif isinstance(source, Mapping):
        hint = " Pass the function itself: its schema is read from its signature."
    elif isinstance(source, (classmethod, staticmethod, property)):
        hint = " Pass the method of the class or of an instance, such as obj.method."
    elif isinstance(source, types.ModuleType):
        hint = f" Pass a function of the module, such as {_example_of(source)}."
    elif inspect.isawaitable(source):
        hint = " Pass the coroutine function itself, without calling it."
        if inspect.iscoroutine(source):
            source.close()  # otherwise Python warns that it was never awaited
    elif hasattr(source, "get_tools"):
        hint = " Pass the tools in it: tools=toolkit.get_tools()."
    raise SignatureError(f"A tool must be a function or a dspy.Tool, not {_short(source)}.{hint}")


def _example_of(module: types.ModuleType) -> str:
    public = (n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
    return f"{module.__name__}.{next(public, 'f')}"


def _short(value: object) -> str:
    try:
        return in_one_line(repr(value), _SHOWN_CHARS)
    except Exception:  # noqa: BLE001 - a user's `__repr__` may raise anything
        return f"a {type(value).__name__}"


# ---- Tools ----


def _tool_of(function: Callable[..., Any], name: str | None) -> dspy.Tool:
    """Returns a tool for a callable.

    DSPy reads plain functions, but not the constraints of their types; other callables it reads wrongly or not at all.
    """
    described = describe(function)
    constrained = any(constrains(p.annotation) for p in described.signature.parameters.values())
    if not constrained and (inspect.isfunction(function) or inspect.ismethod(function)):
        try:
            tool = dspy.Tool(function, name=name)
        except Exception:  # noqa: BLE001 - such as a type that has no JSON schema
            logger.debug("DSPy cannot read %s; its signature is used.", _short(function))
        else:
            return tool
    return _built(function, name or described.name, described.doc)


def _built(function: Callable[..., Any], name: str, doc: str) -> dspy.Tool:
    parameters = describe(function).signature.parameters.values()
    hints = {parameter.name: hint_of(parameter) for parameter in parameters}
    schemas = {
        parameter.name: _schema(parameter, hints[parameter.name]) for parameter in parameters
    }
    # Its constructor would inspect the callable.
    tool: dspy.Tool = dspy.Tool.model_construct(
        func=function,
        name=name,
        desc=doc,
        args=schemas,
        arg_types=hints,
        arg_desc=None,
        has_kwargs=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )
    return tool


def _schema(parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    try:
        schema = dict(pydantic.TypeAdapter(hint).json_schema())
    except Exception:  # noqa: BLE001 - any type may be declared
        schema = {}
    if "$defs" in schema:
        schema = {}  # Pydantic checks such values by the type itself
    if any(map(_replaces_values, getattr(hint, "__metadata__", ()))):
        schema = {}  # what the validator takes is not of the type
    if parameter.default is not parameter.empty:
        plain = isinstance(parameter.default, (str, int, float, bool, type(None)))
        schema["default"] = parameter.default if plain else None
    return schema


def _replaces_values(part: object) -> bool:
    kinds = (pydantic.BeforeValidator, pydantic.PlainValidator, pydantic.WrapValidator)
    return isinstance(part, kinds)


def _completed(tool: dspy.Tool) -> dspy.Tool:
    """Returns the tool with what DSPy read of its callable replaced, where that is not a plain function.

    Of a partial, for instance, DSPy reads the class. What the user stated stays.
    """
    function = tool.func
    if inspect.isfunction(function) or inspect.ismethod(function):
        return tool
    described = describe(function)
    read_name = getattr(function, "__name__", type(function).__name__)
    read_doc = getattr(function, "__doc__", None) or getattr(function.__call__, "__doc__", "")
    changes: dict[str, Any] = {}
    if tool.name == read_name:
        changes["name"] = described.name
    if tool.desc == read_doc:
        changes["desc"] = described.doc
    if set(tool.args or {}) <= {"args", "kwargs"}:
        own = _built(function, tool.name, tool.desc)
        changes |= {"args": own.args, "arg_types": own.arg_types, "has_kwargs": own.has_kwargs}
    return tool.model_copy(update=changes)


def _is_langchains(source: object) -> bool:
    names = ("name", "description", "args_schema", "invoke", "ainvoke")
    return not isinstance(source, type) and all(hasattr(source, name) for name in names)


def _from_langchain(source: Any) -> dspy.Tool:
    """Returns a tool for one of LangChain, also for those whose schema is a dict or that have none."""
    if isinstance(source.args_schema, type) and hasattr(source.args_schema, "model_fields"):
        return dspy.Tool.from_langchain(source)
    schema = source.args_schema if isinstance(source.args_schema, Mapping) else {}
    properties = dict(schema.get("properties") or getattr(source, "args", None) or {})
    required = schema.get("required", list(properties))
    args = {
        name: facts if name in required or "default" in facts else {**facts, "default": None}
        for name, facts in properties.items()
    }

    async def call(**arguments: Any) -> Any:
        return await source.ainvoke(arguments)

    return dspy.Tool(
        call, name=source.name, desc=source.description, args=args, arg_types={}, arg_desc={}
    )


# ---- Names ----


def _python_named(tool: dspy.Tool) -> dspy.Tool:
    """Returns the tool under a Python name. The documentation then states its own."""
    name = python_name(tool.name or "")
    if name == tool.name or tool.name == _LAMBDA or not name.isidentifier() or not name.strip("_"):
        return tool
    note = f"Its own name is {tool.name!r}; code calls it {name}()."
    desc = "\n\n".join(filter(None, (inspect.cleandoc(tool.desc or ""), note)))
    return tool.model_copy(update={"name": name, "desc": desc})


def _check_name(name: str) -> None:
    if name == _LAMBDA:
        raise SignatureError(f"A tool needs a name, and a lambda has none. {_RENAME}")
    if not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
        raise SignatureError(
            f"A tool cannot be called {name!r}: it is not a Python identifier that cells can use. {_RENAME}"
        )
    if name in RESERVED_NAMES:
        raise SignatureError(
            f"A tool cannot be called {name!r}: the REPL has that name itself. {_RENAME}"
        )
