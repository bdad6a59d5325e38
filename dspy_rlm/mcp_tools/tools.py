"""A server's tools as `dspy.Tool`s: coroutine functions with names, documentation and schemas that are safe to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import dspy
import mcp_types as types

from dspy_rlm.mcp_tools.bounds import MAX_DESCRIPTION_CHARS
from dspy_rlm.mcp_tools.naming import names_in_repl
from dspy_rlm.mcp_tools.results import error_text, is_wrapped, plain_result
from dspy_rlm.mcp_tools.schemas import argument_schemas, returned_schema, type_of
from dspy_rlm.mcp_tools.texts import safe_line, safe_name, safe_text
from dspy_rlm.signatures.json_schemas import note_of, type_text
from dspy_rlm.signatures.served_tools import mark_served

# Calls a tool by its own name with arguments, and returns its result.
Call = Callable[[str, dict[str, Any]], Awaitable[types.CallToolResult]]


@dataclasses.dataclass(frozen=True)
class Naming:
    """The rules for the names of a server's tools in the REPL: see `naming.names_in_repl`."""

    server: str
    prefix: str = ""
    taken: Collection[str] = ()


def tools_of(listed: Sequence[types.Tool], naming: Naming, call: Call) -> dict[str, dspy.Tool]:
    """Returns the tools of a server by their names in the REPL."""
    names = names_in_repl([one.name for one in listed], naming.prefix, naming.server, naming.taken)
    return {
        name: _tool(one, name, naming.server, call) for name, one in zip(names, listed, strict=True)
    }


def _tool(listed: types.Tool, name: str, server: str, call: Call) -> dspy.Tool:
    own = listed.name
    args = argument_schemas(listed.input_schema)
    returned = returned_schema(listed.output_schema)
    description = listed.description or listed.title or ""

    async def invoke(**arguments: Any) -> Any:
        result = await call(own, arguments)
        if result.is_error:
            raise RuntimeError(error_text(result))
        return plain_result(result, returned)

    async def invoke_without_arguments() -> Any:
        return await invoke()

    invoke_without_arguments.__annotations__.clear()  # its call is shown without a type

    notes = [safe_text(description, MAX_DESCRIPTION_CHARS)]
    if kind := _returns(returned):
        notes.append(kind)
    shown = safe_name(own)
    where = f"A tool of the MCP server {safe_name(server)!r}"
    notes.append(f"{where}." if shown == name else f"{where}, which calls it '{shown}'.")
    free = listed.input_schema.get("additionalProperties") not in (None, False)
    function = invoke if args or free else invoke_without_arguments
    mark_served(function, safe_line(description))
    return dspy.Tool(
        function,
        name=name,
        desc="\n".join(filter(None, notes)),
        args=args,
        arg_types={key: type_of(schema) for key, schema in args.items()},
        arg_desc={},
    )


def _returns(schema: dict[str, Any]) -> str:
    """Returns a sentence on a result; empty if its type is unknown."""
    if not schema:
        return ""
    value = schema["properties"]["result"] if is_wrapped(schema) else schema
    parts = (type_text(value), note_of({**value, "description": ""}))
    return f"Returns {': '.join(filter(None, parts))}."
